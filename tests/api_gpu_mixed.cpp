// Mixed batches on the GPU: BatchAttention and the prefill class against the oracle, and BatchAttention's graph against eager
// runs of the same object. On a Hopper GPU all of this is P12's work; elsewhere the same must hold of whoever computes.
#include <doctest/doctest.h>

#include <string>

#include "api/batch_attention.hpp"
#include "api/batch_prefill.hpp"
#include "gpu/device.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "ladder/rung.hpp"
#include "tests/api_gpu.hpp"
#include "tests/gpu_cases.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

// Decodes of very different lengths, one of them with no keys and one with a single key, beside pieces of prompts; one
// request without a query.
CaseSpec mixed_spec(std::uint64_t seed, DType dtype = DType::f16) {
  CaseSpec spec{.name = "mixed", .seed = seed, .qo_lens = {1, 200, 1, 1, 0, 1, 129, 1, 1, 2, 1, 70},
                .kv_lens = {3000, 200, 17, 900, 50, 1, 1400, 5000, 0, 600, 2100, 700}, .page_size = 16, .dtype = dtype};
  spec.params = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128, .mask = MaskMode::causal};
  return spec;
}

AttentionConfig mixed_config(const Case& c, DType o_dtype, SplitPolicy policy, std::int32_t num_sms = 0) {
  AttentionConfig config = config_of(c.spec, Device::gpu, o_dtype);
  config.execution.policy = policy, config.execution.chunk_size = 64, config.execution.num_sms = num_sms;
  return config;
}

bool hopper() { return gpu::why_no_hopper().empty(); }
bool is_p12(const std::string& why) { return why.find("P12") != std::string::npos; }

AttentionLimits limits_for(const Case& c) {
  return {.max_batch = c.spec.batch(), .max_pages = static_cast<std::int64_t>(c.paged_kv_indices.size()),
          .max_nnz_qo = c.q.shape[0]};
}

struct Ran {
  Result result;
  std::string why;
};

Ran by_prefill(const Case& c, const AttentionConfig& config) {
  const gpu::DeviceProblem on_device(c.problem());
  GpuWorkspace memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, limits_for(c)));
  BatchPrefillWithPagedKVCache prefill(config, memory.view());
  prefill.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_last_page_len);
  GpuOutput out(static_cast<std::int32_t>(c.q.shape[0]), config);
  const AttentionProblem& view = on_device.view();
  prefill.run(view.q, view.kv, view.paged_kv_indices, out.view(), nullptr, view.sinks);
  Ran ran{out.result(nullptr), prefill.explain()};
  CHECK(memory.guards_intact());
  return ran;
}

Ran by_batch_attention(const Case& c, const AttentionConfig& config) {
  const gpu::DeviceProblem on_device(c.problem());
  GpuWorkspace memory(BatchAttention::workspace_bytes(config, limits_for(c)));
  BatchAttention attention(config, limits_for(c), memory.view());
  attention.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_indices, c.spec.kv_lens);
  GpuOutput out(static_cast<std::int32_t>(c.q.shape[0]), config);
  const AttentionProblem& view = on_device.view();
  attention.run(view.q, view.kv, out.view(), nullptr, view.sinks);
  Ran ran{out.result(nullptr), attention.explain()};
  CHECK(memory.guards_intact());
  return ran;
}

// Against double, in f32 and in the case's dtype; twice; and P12 where it should be.
template <class Run>
void check_mixed(const Case& c, SplitPolicy policy, std::int32_t num_sms, bool p12, Run&& run) {
  CAPTURE(name_of(policy));
  CAPTURE(num_sms);
  const Oracle oracle = make_oracle(c, rung(hopper() ? "P11" : "P5").rounding(c.spec));
  const AttentionConfig config = mixed_config(c, DType::f32, policy, num_sms);
  const Ran exact = run(c, config);
  CHECK_MESSAGE(is_p12(exact.why) == (p12 && hopper()), exact.why);
  const Comparison comparison = compare(c, exact.result.floats(), exact.result.lse_log2, oracle);
  CHECK_MESSAGE(comparison.ok(), comparison.message());
  CHECK((run(c, config).result == exact.result));
  const Ran narrow = run(c, mixed_config(c, c.spec.dtype, policy, num_sms));
  CHECK(narrow.result.o == rounded(exact.result.floats(), c.spec.dtype));
}

// Every kind of batch, on all SMs and on few, which have many cuts.
template <class Run>
void check_all(bool takes_p12_always, Run&& run) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const std::int32_t num_sms : {0, 5, 1}) {
      const Case c = draw_case(decidable(mixed_spec(3, dtype)));
      for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::count, SplitPolicy::target}) {
        check_mixed(c, policy, num_sms, true, run);
      }
      for (const SplitPolicy policy : {SplitPolicy::fixed, SplitPolicy::none}) check_mixed(c, policy, num_sms, false, run);
    }
  }
  CaseSpec spec = mixed_spec(4);
  spec.params.sinks = true, spec.params.window_left = 333;
  check_mixed(draw_case(decidable(spec)), SplitPolicy::balanced, 0, true, run);
  spec = mixed_spec(5);
  spec.params.num_qo_heads = 12, spec.params.num_kv_heads = 1, spec.params.mask = MaskMode::none;  // two decode tiles a group
  check_mixed(draw_case(decidable(spec)), SplitPolicy::balanced, 0, true, run);
  spec = mixed_spec(6);
  for (std::int32_t& len : spec.qo_lens) len = len > 1 ? len : 0;  // no decode
  check_mixed(draw_case(decidable(spec)), SplitPolicy::balanced, 0, takes_p12_always, run);
}

}  // namespace

TEST_CASE("a mixed batch by the prefill class equals the oracle; twice the same bits") { check_all(false, by_prefill); }

TEST_CASE("a mixed batch by BatchAttention equals the oracle; twice the same bits") {
  check_all(true, by_batch_attention);
  CaseSpec spec = mixed_spec(7);
  for (std::int32_t& len : spec.qo_lens) len = len == 1;  // decodes alone; the limits allow more than one query a request
  check_mixed(draw_case(decidable(spec)), SplitPolicy::balanced, 0, true, by_batch_attention);
}

TEST_CASE("BatchAttention takes what P12 does not") {
  for (const std::int32_t page_size : {16, 4, 1}) {
    for (const bool capped : {false, true}) {
      CaseSpec spec = mixed_spec(8);
      spec.page_size = page_size, spec.params.logits_soft_cap = capped ? 20.0f : 0.0f;
      const Case c = draw_case(decidable(spec));
      CAPTURE(page_size);
      CAPTURE(capped);
      check_mixed(c, SplitPolicy::balanced, 0, page_size == 16 && !capped, by_batch_attention);
    }
  }
}

TEST_CASE("BatchAttentionWithAttentionSink has the bits of BatchAttention with sinks") {
  CaseSpec spec = mixed_spec(9);
  spec.params.sinks = true;
  const Case c = draw_case(decidable(spec));
  AttentionConfig config = mixed_config(c, DType::f16, SplitPolicy::balanced);
  const Ran wanted = by_batch_attention(c, config);
  config.logits.sinks = false;
  const gpu::DeviceProblem on_device(c.problem());
  GpuWorkspace memory(BatchAttentionWithAttentionSink::workspace_bytes(config, limits_for(c)));
  BatchAttentionWithAttentionSink attention(config, limits_for(c), memory.view());
  attention.plan(c.qo_indptr, c.paged_kv_indptr, c.paged_kv_indices, c.spec.kv_lens);
  GpuOutput out(static_cast<std::int32_t>(c.q.shape[0]), config);
  attention.run(on_device.view().q, on_device.view().kv, on_device.view().sinks, out.view());
  CHECK((out.result(nullptr) == wanted.result));
  CHECK(attention.explain() == wanted.why);
}

namespace {

// Requests of one case, as BatchAttention is given them.
struct OfCase {
  std::vector<std::int32_t> qo_indptr{0}, kv_indptr{0}, kv_indices, kv_len_arr;
  std::vector<std::byte> q;

  void add(const Case& c, std::int32_t b) {
    const std::size_t row = c.q.bytes.size() / static_cast<std::size_t>(c.q.shape[0]);
    const std::int32_t begin = c.qo_indptr[b], end = c.qo_indptr[b + 1];
    q.insert(q.end(), c.q.bytes.begin() + begin * row, c.q.bytes.begin() + end * row);
    qo_indptr.push_back(qo_indptr.back() + end - begin);
    kv_indices.insert(kv_indices.end(), c.paged_kv_indices.begin() + c.paged_kv_indptr[b],
                      c.paged_kv_indices.begin() + c.paged_kv_indptr[b + 1]);
    kv_indptr.push_back(static_cast<std::int32_t>(kv_indices.size()));
    kv_len_arr.push_back(c.spec.kv_lens[b]);
  }
};

enum class Of { decodes, prefills, all, nothing };

// Some of the case's requests of that kind, in any order, as many as the limits allow.
OfCase random_requests_of(const Case& c, Random& random, Of kind) {
  OfCase batch;
  const AttentionLimits limits = limits_for(c);
  for (std::uint32_t i = kind == Of::nothing ? 0 : 1 + random.below(12); i > 0; --i) {
    const auto b = static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(c.spec.batch())));
    const std::int32_t len = c.spec.qo_lens[b], pages = c.paged_kv_indptr[b + 1] - c.paged_kv_indptr[b];
    if ((kind == Of::decodes && len != 1) || (kind == Of::prefills && len <= 1)) continue;
    if (batch.qo_indptr.back() + len > *limits.max_nnz_qo || batch.kv_indptr.back() + pages > limits.max_pages) continue;
    batch.add(c, b);
  }
  return batch;
}

}  // namespace

TEST_CASE("a graph of BatchAttention captured once replays thirty random plans with the bits of eager runs") {
  const Case c = draw_case(mixed_spec(10));
  const auto rows = static_cast<std::int32_t>(c.q.shape[0]);
  for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::fixed}) {
    for (const bool pdl : {false, true}) {
      AttentionConfig config = mixed_config(c, DType::f16, policy);
      config.execution.enable_pdl = pdl;
      const gpu::DeviceProblem on_device(c.problem());
      GpuWorkspace memory(BatchAttention::workspace_bytes(config, limits_for(c)));
      BatchAttention attention(config, limits_for(c), memory.view());
      gpu::DeviceBuffer q(c.q.bytes.size());
      GpuOutput out(rows, config);
      GpuStream stream;
      const auto run = [&] {
        attention.run(contiguous(q.data(), DType::f16, {rows, 8, 128}), on_device.view().kv, out.view(), stream);
      };
      const auto plan = [&](const OfCase& batch) {
        q.upload(batch.q.data(), batch.q.size());
        attention.plan(batch.qo_indptr, batch.kv_indptr, batch.kv_indices, batch.kv_len_arr, stream);
      };
      plan(OfCase{});
      const GpuGraph graph(stream, run);
      CHECK_MESSAGE(is_p12(attention.explain()) == (hopper() && policy == SplitPolicy::balanced), attention.explain());
      Random random(options().seed, 12);
      for (int i = 0; i < 30; ++i) {
        const auto kind = static_cast<Of>(i % 4 == 3 ? 3 : (i + i / 4) % 3);
        const OfCase batch = random_requests_of(c, random, kind);
        plan(batch);
        Result results[4];  // eager, eager, replayed, replayed
        for (int k = 0; k < 4; ++k) {
          out.poison(stream);
          if (k < 2) run();
          else graph.launch(stream);
          results[k] = out.result(stream);
        }
        const std::string where = std::string("plan ") + std::to_string(i) + " of " + std::to_string(batch.kv_len_arr.size()) +
                                  " requests, kind " + std::to_string(i % 4) + ", policy " + name_of(policy) +
                                  (pdl ? ", pdl" : "") + ", --seed " + std::to_string(options().seed);
        CHECK_MESSAGE((results[1] == results[0]), "two eager runs differ: ", where);
        CHECK_MESSAGE((results[2] == results[0]), "the graph and an eager run differ: ", where);
        CHECK_MESSAGE((results[3] == results[2]), "two replays differ: ", where);
      }
      CHECK(memory.guards_intact());
    }
  }
}

TEST_CASE("page ids of BatchAttention may lie on the device") {
  const Case c = draw_case(mixed_spec(11));
  const AttentionConfig config = mixed_config(c, DType::f16, SplitPolicy::balanced);
  const Result wanted = by_batch_attention(c, config).result;
  const gpu::DeviceProblem on_device(c.problem());
  GpuWorkspace memory(BatchAttention::workspace_bytes(config, limits_for(c)));
  BatchAttention attention(config, limits_for(c), memory.view());
  attention.plan(c.qo_indptr, c.paged_kv_indptr, on_device.view().paged_kv_indices, c.spec.kv_lens, nullptr, Device::gpu);
  GpuOutput out(static_cast<std::int32_t>(c.q.shape[0]), config);
  attention.run(on_device.view().q, on_device.view().kv, out.view());
  CHECK((out.result(nullptr) == wanted));
}
