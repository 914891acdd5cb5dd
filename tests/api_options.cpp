// Options of the public classes on the CPU: lse as a natural logarithm, in every class and call; the most queries of a
// request among a graph's limits; and what is refused.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/api_prefill.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

using Run = std::function<void(const AttentionOutput&)>;

// The same rows with lse in the other base.
AttentionOutput as_natural(AttentionOutput output) {
  std::swap(output.lse_log2, output.lse_natural);
  return output;
}

// run() into either lse: o is the same, and the natural one is ln 2 times the other, bit for bit; -inf and NaN stay. Counts
// the rows that are finite, -inf and NaN, so that a test knows that it has seen them.
struct Rows {
  int finite = 0, nothing = 0, nan = 0;
};
Rows check_natural(const Case& c, const Run& run) {
  const Result base2 = written(c, DType::f32, run);
  const Result natural = written(c, DType::f32, [&](const AttentionOutput& output) { run(as_natural(output)); });
  CHECK((Result{base2.o, {}} == Result{natural.o, {}}));
  REQUIRE(base2.lse_log2.size() == natural.lse_log2.size());
  Rows rows;
  for (std::size_t i = 0; i < base2.lse_log2.size(); ++i) {
    const float log2 = base2.lse_log2[i], ln = natural.lse_log2[i];  // written() keeps whatever lies where lse goes
    if (std::isnan(log2)) {
      CHECK(std::isnan(ln));
      ++rows.nan;
    } else if (std::isinf(log2)) {
      CHECK(ln == log2);
      ++rows.nothing;
    } else {
      CHECK(ln == log2 * lse_natural_from_log2(1.0f));
      CHECK(std::abs(ln - lse_natural_from_log2(log2)) <= 2e-7f * std::abs(ln));
      ++rows.finite;
    }
  }
  return rows;
}

// Requests with a row that sees no key (more queries than keys), with a NaN in q, and others.
Case case_of_all(bool decode) {
  CaseSpec spec{.name = "lse", .seed = 3, .qo_lens = {9, 0, 33, 1}, .kv_lens = {4, 7, 200, 90}, .dtype = DType::f32};
  if (decode) spec.qo_lens = {1, 1, 1, 1}, spec.kv_lens[0] = 0;
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.2f,
                 .mask = MaskMode::causal, .pos_encoding_mode = PosEncodingMode::ALIBI};
  Case c = draw_case(spec);
  c.q.view().data_as<float>()[c.q.view().size() - 1] = std::numeric_limits<float>::quiet_NaN();
  return c;
}

}  // namespace

TEST_CASE("lse comes as a natural logarithm from a prefill, cut or not") {
  const Case c = case_of_all(false);
  for (const SplitPolicy policy : {SplitPolicy::none, SplitPolicy::fixed}) {
    AttentionConfig config = prefill_config(c, DType::f32);
    config.execution.policy = policy;
    Memory memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, c.qo_indptr, c.paged_kv_indptr,
                                                                c.paged_kv_last_page_len));
    BatchPrefillWithPagedKVCache prefill(config, memory.view());
    prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
    const Rows rows = check_natural(c, [&](const AttentionOutput& output) {
      prefill.run(c.q.view(), c.problem().kv, c.paged_kv_indices, output);
    });
    CHECK(rows.finite > 200);
    CHECK(rows.nothing == 5 * 6);  // the first 5 of 9 queries on 4 keys
    CHECK(rows.nan == 1);
  }
}

TEST_CASE("lse comes as a natural logarithm from a decode and from a graph's object") {
  const Case c = case_of_all(true);
  const AttentionConfig config = prefill_config(c, DType::f32);
  Memory memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, c.paged_kv_indptr, c.paged_kv_last_page_len));
  BatchDecodeWithPagedKVCache decode(config, memory.view());
  decode.plan(c.paged_kv_indptr, c.paged_kv_last_page_len);
  const Rows rows = check_natural(c, [&](const AttentionOutput& output) {
    decode.run(c.q.view(), c.problem().kv, c.paged_kv_indices, output);
  });
  CHECK(rows.finite == 17);
  CHECK(rows.nothing == 6);
  CHECK(rows.nan == 1);

  const AttentionLimits limits{c.spec.batch(), static_cast<std::int64_t>(c.paged_kv_indices.size())};
  Memory graph_memory(CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(config, limits));
  CUDAGraphBatchDecodeWithPagedKVCache graph(config, limits, graph_memory.view());
  graph.plan(c.paged_kv_indptr, c.paged_kv_indices, c.paged_kv_last_page_len);
  const Rows again = check_natural(c, [&](const AttentionOutput& output) {
    graph.run(c.q.view(), c.problem().kv, output);
  });
  CHECK(again.nothing == 6);
}

TEST_CASE("a graph's natural lse has the rows of its limits, and those beyond the batch stay as they are") {
  const Case c = case_of_all(true);
  const AttentionConfig config = prefill_config(c, DType::f32);
  const AttentionLimits limits{c.spec.batch() + 2, static_cast<std::int64_t>(c.paged_kv_indices.size())};
  Memory memory(CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(config, limits));
  CUDAGraphBatchDecodeWithPagedKVCache graph(config, limits, memory.view());
  graph.plan(c.paged_kv_indptr, c.paged_kv_indices, c.paged_kv_last_page_len);
  std::vector<float> q(6 * 6 * 64), o(q.size()), lse(6 * 6, 77.0f);
  std::memcpy(q.data(), c.q.bytes.data(), c.q.bytes.size());
  graph.run(contiguous(q.data(), DType::f32, {6, 6, 64}), c.problem().kv,
            {.o = contiguous(o.data(), DType::f32, {6, 6, 64}), .lse_natural = lse});
  CHECK(lse[0] == -std::numeric_limits<float>::infinity());
  CHECK(std::isfinite(lse[6]));
  CHECK(std::all_of(lse.begin() + 4 * 6, lse.end(), [](float x) { return x == 77.0f; }));
}

TEST_CASE("lse comes as a natural logarithm from the calls without a plan") {
  // Ten keys of zeros: each logit is 0, so the sum is 10.
  std::vector<float> q(4 * 64, 0.5f), k(10 * 2 * 64, 0.0f), v(10 * 2 * 64, 0.25f), o(4 * 64), lse(4);
  const Tensor keys = contiguous(k.data(), DType::f32, {10, 2, 64}), values = contiguous(v.data(), DType::f32, {10, 2, 64});
  single_decode_with_kv_cache(contiguous(q.data(), DType::f32, {4, 64}), keys, values,
                              {.o = contiguous(o.data(), DType::f32, {4, 64}), .lse_natural = lse});
  for (const float natural : lse) CHECK(natural == doctest::Approx(std::log(10.0)));
  std::fill(lse.begin(), lse.end(), 0.0f);
  single_prefill_with_kv_cache(contiguous(q.data(), DType::f32, {1, 4, 64}), keys, values,
                               {.o = contiguous(o.data(), DType::f32, {1, 4, 64}), .lse_natural = lse});
  for (const float natural : lse) CHECK(natural == doctest::Approx(std::log(10.0)));
}

TEST_CASE("one lse or none: both at once, and one of a wrong size or place, are refused") {
  const Case c = case_of_all(false);
  const AttentionConfig config = prefill_config(c, DType::f32);
  std::vector<std::byte> bytes(1 << 20);
  BatchPrefillWithPagedKVCache prefill(config, {.device = bytes});
  prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
  const std::size_t rows = static_cast<std::size_t>(c.q.shape[0]) * 6;
  std::vector<float> o(rows * 64), lse(2 * rows);
  const Tensor to = contiguous(o.data(), DType::f32, {c.q.shape[0], 6, 64});
  const auto refused = [&](const AttentionOutput& output) {
    return refusal([&] { prefill.run(c.q.view(), c.problem().kv, c.paged_kv_indices, output); });
  };
  const std::span<float> all = lse;
  CHECK(refused({.o = to, .lse_natural = all.first(rows)}) == "accepted");
  CHECK(refused({to, all.first(rows), all.last(rows)}) ==
        "lse_natural size = 258: must be 0, since lse_log2 is given: one lse or none");
  CHECK(refused({.o = to, .lse_natural = all.first(rows - 1)}) ==
        "lse_natural size = 257: must be rows of o * num_qo_heads, or 0 if not wanted (258)");
  CHECK(refused({.o = to, .lse_natural = std::span(o).first(rows)}).find("lse_natural") == 0);
}

TEST_CASE("a graph keeps to the most queries of a request that its limits name") {
  const Case c = causal_case(DType::f32);  // 70, 0, 1 and 33 queries
  const AttentionConfig config = prefill_config(c, DType::f32);
  const auto pages = static_cast<std::int64_t>(c.paged_kv_indices.size());
  AttentionLimits limits{.max_batch = 4, .max_pages = pages, .max_nnz_qo = c.q.shape[0], .max_qo_len = 70};
  using Graph = CUDAGraphBatchPrefillWithPagedKVCache;
  const auto plan = [&] {
    Memory memory(Graph::workspace_bytes(config, limits));
    Graph graph(config, limits, memory.view());
    graph.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_indices, c.paged_kv_last_page_len);
  };
  CHECK(refusal(plan) == "accepted");
  limits.max_qo_len = 69;
  CHECK(refusal(plan) == "qo_len = 70 (request 0): exceeds what was captured: max_qo_len 69");
  limits.max_qo_len = 0;
  CHECK(refusal(plan) == "max_qo_len = 0: must be at least 1, or not given");
  const AttentionLimits of_decode{.max_batch = 4, .max_pages = pages, .max_qo_len = 1};
  CHECK(refusal([&] { CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(config, of_decode); }) ==
        "max_qo_len = 1: must not be given: a decode has one query a request");
}
