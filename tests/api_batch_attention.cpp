// BatchAttention on the CPU: FlashInfer's arguments, a graph's limits; against the prefill class, bit for bit, and the oracle.
#include <doctest/doctest.h>

#include <utility>

#include "ladder/case_table.hpp"
#include "ladder/oracle.hpp"
#include "tests/api_prefill.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

AttentionLimits limits_of(const Case& c) {
  return {.max_batch = c.spec.batch(), .max_pages = static_cast<std::int64_t>(c.paged_kv_indices.size()),
          .max_nnz_qo = c.q.shape[0]};
}

Result by_batch_attention(const Case& c, DType o_dtype) {
  const AttentionConfig config = prefill_config(c, o_dtype);
  Memory memory(BatchAttention::workspace_bytes(config, limits_of(c)));
  BatchAttention attention(config, limits_of(c), memory.view());
  attention.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_indices, c.spec.kv_lens);
  return written(c, o_dtype, [&](const AttentionOutput& out) {
    attention.run(c.q.view(), c.problem().kv, out, nullptr, c.sinks, c.custom_mask, c.problem().scales);
  });
}

void check_case(const CaseSpec& spec) {
  INFO("case: ", spec.name, " (seed ", spec.seed, ")");
  const Case c = draw_case(spec);
  const Oracle oracle = make_oracle(c);
  const Result exact = by_batch_attention(c, DType::f32);
  const Comparison comparison = compare(c, exact.o, exact.lse_log2, oracle);
  CHECK_MESSAGE(comparison.ok(), comparison.message());
  CHECK(exact == by_page_lists(c, DType::f32));
}

// Three requests on pages of 4: 9, 4 and no tokens in 3, 1 and no pages.
struct Three {
  std::vector<std::int32_t> qo_indptr{0, 2, 3, 3}, kv_indptr{0, 3, 4, 4}, kv_indices{5, 0, 2, 7}, kv_len_arr{9, 4, 0};
  AttentionConfig config{.heads = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 64},
                         .cache = {.page_size = 4, .dtype = DType::f32}};
  AttentionLimits limits{.max_batch = 3, .max_pages = 5, .max_nnz_qo = 4};
  Memory memory{BatchAttention::workspace_bytes(config, limits)};
  BatchAttention attention{config, limits, memory.view()};

  void plan() { attention.plan(qo_indptr, kv_indptr, kv_indices, kv_len_arr); }
  std::string refused() {
    return refusal([&] { plan(); });
  }
  std::string refused_lens(std::vector<std::int32_t> lens) {
    return refusal([&] { attention.plan(qo_indptr, kv_indptr, kv_indices, lens); });
  }
};

// Sixteen pages of a cache, and rows of q and o as many as the limits allow.
struct Buffers {
  std::vector<float> kv = std::vector<float>(16 * 2 * 4 * 2 * 64, 0.5f), q = std::vector<float>(4 * 4 * 64, 0.25f);
  std::vector<float> o = std::vector<float>(4 * 4 * 64);
  PagedKvCache cache() { return paged_kv_cache(contiguous(kv.data(), DType::f32, {16, 2, 4, 2, 64}), KvLayout::NHD); }
  void run(BatchAttention& attention) {
    attention.run(contiguous(q.data(), DType::f32, {4, 4, 64}), cache(), {contiguous(o.data(), DType::f32, {4, 4, 64}), {}});
  }
};

}  // namespace

TEST_CASE("BatchAttention equals the oracle and has the prefill class's bits on the case table") {
  for (const CaseSpec& spec : case_table()) check_case(spec);
}

TEST_CASE("BatchAttention equals the oracle and has the prefill class's bits on random cases") {
  for (std::uint64_t seed = 100; seed < 160; ++seed) check_case(random_spec(seed));
}

TEST_CASE("BatchAttention takes any batch within its limits, one after the other") {
  const AttentionLimits limits{.max_batch = 9, .max_pages = 400, .max_nnz_qo = 200};
  const AttentionConfig config = prefill_config(causal_case(DType::f32), DType::f32);
  Memory memory(BatchAttention::workspace_bytes(config, limits));
  BatchAttention attention(config, limits, memory.view());
  CHECK(attention.explain() == "C4 on the CPU, with up to 2 threads");
  for (const std::uint64_t seed : {7, 9, 11}) {
    const Case c = causal_case(DType::f32, seed);
    attention.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_indices, c.spec.kv_lens);
    CHECK(attention.current_plan().qo_lens == c.spec.qo_lens);
    CHECK(attention.current_plan().kv_lens == c.spec.kv_lens);
    GuardedOutput out(200, 6, 64);
    std::vector<std::byte> q(200 * 6 * 64 * sizeof(float), std::byte{0xff});
    std::copy(c.q.bytes.begin(), c.q.bytes.end(), q.begin());
    const AttentionOutput view = out.view();
    attention.run(contiguous(q.data(), DType::f32, {200, 6, 64}), c.problem().kv, view);
    const Result expected = by_page_lists(c, DType::f32);
    const auto* o = view.o.data_as<const float>();
    CHECK(std::equal(expected.o.begin(), expected.o.end(), o));
    CHECK(std::all_of(o + expected.o.size(), o + view.o.size(), [](float x) { return x != x; }));  // of no request
    CHECK(out.guards_intact());
  }
}

TEST_CASE("kv_len_arr fills the pages of kv_indptr, the last one at least by one token") {
  Three three;
  CHECK(three.refused() == "accepted");
  CHECK(three.attention.current_plan().kv_lens == std::vector<std::int32_t>{9, 4, 0});
  for (const std::int32_t len : {10, 11, 12}) CHECK(three.refused_lens({len, 4, 0}) == "accepted");
  for (const std::int32_t len : {1, 2, 3}) CHECK(three.refused_lens({9, len, 0}) == "accepted");
  const std::string must = "must fill the request's pages, kv_indptr[request + 1] - kv_indptr[request], the last one at least "
                           "by one token";
  CHECK(three.refused_lens({8, 4, 0}) == "kv_len_arr = 8 (request 0): " + must);
  CHECK(three.refused_lens({13, 4, 0}) == "kv_len_arr = 13 (request 0): " + must);
  CHECK(three.refused_lens({9, 0, 0}) == "kv_len_arr = 0 (request 1): " + must);
  CHECK(three.refused_lens({9, 5, 0}) == "kv_len_arr = 5 (request 1): " + must);
  CHECK(three.refused_lens({9, 4, 1}) == "kv_len_arr = 1 (request 2): " + must);
  CHECK(three.refused_lens({9, 4, -1}) == "kv_len_arr = -1 (request 2): must be 0 or more");
  CHECK(three.refused_lens({2147483647, 4, 0}) == "kv_len_arr = 2147483647 (request 0): " + must);
  CHECK(three.refused_lens({9, 4}) == "kv_indptr size = 4: must be that of kv_len_arr + 1");
  CHECK(three.refused_lens({9, 4, 0, 0}) == "kv_indptr size = 4: must be that of kv_len_arr + 1");
  CHECK(three.refused_lens({}) == "kv_indptr size = 4: must be that of kv_len_arr + 1");
  three.kv_indptr = {2147483647, -2147483648, 0, 0};  // in 32 bits one page
  CHECK(three.refused_lens({4, 0, 0}) == "kv_len_arr = 4 (request 0): " + must);
  three.kv_indptr = {};
  CHECK(three.refused_lens({}) == "kv_indptr size = 0: must be that of kv_len_arr + 1");
}

TEST_CASE("BatchAttention refuses what its prefill would, by the prefill's words") {
  const auto with = [](auto change) {
    Three three;
    change(three);
    return three.refused();
  };
  CHECK(with([](Three&) {}) == "accepted");
  CHECK(with([](Three& t) { t.kv_indptr = {0, 3, 2, 2}; }).find("kv_len_arr = 4 (request 1)") == 0);  // nothing fills -1 pages
  CHECK(with([](Three& t) { t.qo_indptr = {0, 2, 3}; }).find("qo_indptr size = 3") == 0);
  CHECK(with([](Three& t) { t.qo_indptr = {0, 2, 1, 1}; }).find("qo_indptr") == 0);
  CHECK(with([](Three& t) { t.kv_indices = {5, 0, 2}; }).find("size = 3") != std::string::npos);
  CHECK(with([](Three& t) { t.qo_indptr = {0, 2, 3, 5}; }).find("nnz_qo = 5: exceeds what was captured: max_nnz_qo 4") == 0);
  CHECK(with([](Three& t) { t.qo_indptr.push_back(3), t.kv_indptr.push_back(4), t.kv_len_arr.push_back(0); })
            .find("batch = 4: exceeds what was captured: max_batch 3") == 0);
  CHECK(with([](Three& t) { t.kv_indptr = {0, 3, 4, 6}, t.kv_indices = {5, 0, 2, 7, 1, 3}, t.kv_len_arr = {9, 4, 8}; })
            .find("pages = 6: exceeds what was captured: max_pages 5") == 0);
  const Three three;
  const AttentionLimits large{.max_batch = 9, .max_pages = 400, .max_nnz_qo = 200};  // in which tiles may be cut
  CHECK(refusal([&] { BatchAttention(three.config, large, {}); }).find("workspace.device bytes = 0") == 0);
  AttentionLimits decode = three.limits;  // a graph of decodes has no queries to count
  decode.max_nnz_qo.reset();
  CHECK(refusal([&] { BatchAttention::workspace_bytes(three.config, decode); }).find("max_nnz_qo") != std::string::npos);
}

TEST_CASE("run() needs a plan, and after a refused one there is none") {
  Three three;
  Buffers buffers;
  CHECK(refusal([&] { buffers.run(three.attention); }).find("run()") != std::string::npos);
  three.plan();
  buffers.run(three.attention);
  CHECK(buffers.o[0] == 0.5f);  // a mean of values that are all alike
  CHECK(three.refused_lens({8, 4, 0}) != "accepted");
  CHECK(refusal([&] { buffers.run(three.attention); }).find("run()") == 0);
  three.plan();
  buffers.run(three.attention);
  three.qo_indptr = {0, 2, 1, 1};
  CHECK(three.refused() != "accepted");
  CHECK(refusal([&] { buffers.run(three.attention); }).find("run()") != std::string::npos);
}

TEST_CASE("a BatchAttention that was moved plans and runs where it is now") {
  Three three;
  Buffers buffers;
  three.plan();
  BatchAttention moved = std::move(three.attention);
  buffers.run(moved);
  CHECK(buffers.o[0] == 0.5f);
  Three other;
  other.attention = std::move(moved);
  buffers.o.assign(buffers.o.size(), 0);
  buffers.run(other.attention);  // with the plan and the memory that it has had all along
  CHECK(buffers.o[0] == 0.5f);
}

TEST_CASE("BatchAttentionWithAttentionSink has the sink of each query head, and sets config.logits.sinks itself") {
  for (const std::uint64_t seed : {3, 4}) {
    CaseSpec spec = causal_case(DType::f32, seed).spec;
    spec.params.sinks = true;
    const Case c = draw_case(spec);
    AttentionConfig config = prefill_config(c, DType::f32);
    config.logits.sinks = false;
    Memory memory(BatchAttentionWithAttentionSink::workspace_bytes(config, limits_of(c)));
    BatchAttentionWithAttentionSink attention(config, limits_of(c), memory.view());
    attention.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_indices, c.spec.kv_lens);
    CHECK(attention.current_plan().kv_lens == c.spec.kv_lens);
    CHECK(attention.explain() == "C4 on the CPU, with up to 2 threads");
    const Result result = written(c, DType::f32, [&](const AttentionOutput& out) {
      attention.run(c.q.view(), c.problem().kv, c.sinks, out);
    });
    CHECK(result == by_batch_attention(c, DType::f32));  // with config.logits.sinks
    const Oracle oracle = make_oracle(c);
    const Comparison comparison = compare(c, result.o, result.lse_log2, oracle);
    CHECK_MESSAGE(comparison.ok(), comparison.message());
    const auto without = [&] {
      written(c, DType::f32, [&](const AttentionOutput& out) { attention.run(c.q.view(), c.problem().kv, {}, out); });
    };
    CHECK(refusal(without).find("sinks") == 0);
  }
}
