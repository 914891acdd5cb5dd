// Many queries a request on the GPU through the public classes: every case of the table against the oracle, by page lists
// and by block tables.
#include <doctest/doctest.h>

#include <cstring>

#include "api/attention_session.hpp"
#include "api/batch_prefill.hpp"
#include "gpu/device.hpp"
#include "ladder/case_table.hpp"
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

AttentionConfig prefill_config(const Case& c, DType o_dtype, SplitPolicy policy) {
  AttentionConfig config = config_of(c.spec, Device::gpu, o_dtype);
  config.execution.policy = policy;
  config.execution.chunk_size = 64;
  return config;
}

BatchLengths lengths_of(const Case& c) {
  const AttentionProblem problem = c.problem();
  BatchLengths lengths{.qo_indptr = problem.qo_indptr};
  if (problem.has_block_table()) {
    lengths.block_table = BlockTableLengths{problem.seq_lens, problem.max_pages()};
  } else {
    lengths.paged_kv_indptr = problem.paged_kv_indptr;
    lengths.paged_kv_last_page_len = problem.paged_kv_last_page_len;
  }
  return lengths;
}

Result prefill(const Case& c, DType o_dtype, SplitPolicy policy) {
  const AttentionConfig config = prefill_config(c, o_dtype, policy);
  const gpu::DeviceProblem on_device(c.problem());
  const AttentionProblem& view = on_device.view();
  AttentionSession session(config, {.decode = false});
  GpuWorkspace memory(session.bytes_for(lengths_of(c)));
  session.attach(memory.view());
  session.plan(lengths_of(c), {}, Device::cpu, nullptr);
  GpuOutput out(static_cast<std::int32_t>(c.q.shape[0]), config);
  session.run({.q = view.q, .kv = view.kv, .page_ids = view.has_block_table() ? view.block_tables : view.paged_kv_indices,
               .output = out.view(), .sinks = view.sinks, .custom_mask = view.custom_mask}, nullptr);
  Result result = out.result(nullptr);
  CHECK(memory.guards_intact());
  return result;
}

// The rung that an object's kernel is, by what it says of itself.
const Rung& rung_behind(const AttentionConfig& config) {
  const std::string why = AttentionSession(config, {.decode = false}).explain();
  return rung(why.starts_with("fa3: P11") ? "P11" : why.starts_with("fa2: P5") ? "P5" : "P1");
}

void check_prefill(const CaseSpec& spec, SplitPolicy policy) {
  INFO("case: ", spec.name, " (seed ", spec.seed, ")");
  const Case c = draw_case(spec);
  const Oracle oracle = make_oracle(c, rung_behind(prefill_config(c, DType::f32, policy)).rounding(spec));
  const Result exact = prefill(c, DType::f32, policy);
  const Comparison comparison = compare(c, exact.floats(), exact.lse_log2, oracle.o, oracle.lse_log2, oracle.tolerance);
  CHECK_MESSAGE(comparison.ok(), comparison.message());
  if (spec.dtype == DType::f32) return;
  CHECK(prefill(c, spec.dtype, policy).o == rounded(exact.floats(), spec.dtype));
}

}  // namespace

TEST_CASE("prefill on the GPU equals the oracle on the case table") {
  for (const CaseSpec& spec : case_table()) {
    for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::fixed}) check_prefill(spec, policy);
  }
}

TEST_CASE("prefill on the GPU equals the oracle on random cases") {
  const int cases = options().cases > 0 ? options().cases : 100;
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const auto seed = options().seed + static_cast<std::uint64_t>(i);
    check_prefill(i % 2 ? random_spec(seed) : random_fast_prefill(seed), i % 3 ? SplitPolicy::balanced : SplitPolicy::fixed);
  }
}

TEST_CASE("a backend is taken or refused with the reason; both give one answer") {
  CaseSpec spec = as_plain_prefill(random_fast_prefill(6));
  spec.page_size = 16;
  const Case c = draw_case(spec);
  AttentionConfig config = prefill_config(c, DType::f32, SplitPolicy::balanced);
  config.execution.backend = Backend::fa2;
  CHECK(AttentionSession(config, {.decode = false}).explain().starts_with("fa2: P5"));
  const auto refused = [&](const AttentionConfig& asked, bool decode, const char* why) {
    CHECK_THROWS_WITH_AS(AttentionSession(asked, {.decode = decode}), doctest::Contains(why), InputError);
  };
  AttentionConfig f32 = config;
  f32.cache.dtype = DType::f32;
  refused(f32, false, "neither f16 nor bf16");
  refused(config, true, "is for prefill");
  config.execution.backend = Backend::fa3;
  if (!gpu::why_no_hopper().empty()) return refused(config, false, gpu::why_no_hopper().c_str());
  CHECK(AttentionSession(config, {.decode = false}).explain().starts_with("fa3: P11"));
  config.cache.page_size = 4;
  refused(config, false, "no multiple of 8");
  config.execution.backend = Backend::automatic;
  CHECK(AttentionSession(config, {.decode = false}).explain().find("not fa3") != std::string::npos);
}

// Tokens one after the other, requests that begin at any row: the last tiles lie at the very end of the memory.
TEST_CASE("a ragged cache gives the bits of a paged one") {
  for (const std::int32_t last : {1, 77, 128, 300}) {
    CaseSpec spec{.name = "ragged", .seed = 5, .qo_lens = {5, 130, 0, 64, last}, .kv_lens = {5, 331, 7, 64, last},
                  .dtype = DType::f16};
    spec.params = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128, .mask = MaskMode::causal};
    const Case c = draw_case(spec);
    const AttentionProblem problem = c.problem();
    const PagedKvCache& kv = problem.kv;
    std::vector<std::int32_t> kv_indptr{0};
    std::vector<Half> k, v;
    for (std::int32_t b = 0; b < problem.batch(); ++b) {
      for (std::int32_t token = 0; token < problem.kv_len(b); ++token) {
        const KvSlot slot = problem.page_table().locate(b, token);
        for (std::int32_t head = 0; head < 2; ++head) {
          const Half* key = static_cast<const Half*>(kv.k) + kv.k_strides.offset(slot, head);
          const Half* value = static_cast<const Half*>(kv.v) + kv.v_strides.offset(slot, head);
          k.insert(k.end(), key, key + 128), v.insert(v.end(), value, value + 128);
        }
      }
      kv_indptr.push_back(kv_indptr.back() + problem.kv_len(b));
    }
    const Result paged = prefill(c, DType::f16, SplitPolicy::none);
    const gpu::DeviceProblem on_device(problem);
    const gpu::DeviceBuffer device_k(k.data(), k.size() * sizeof(Half)), device_v(v.data(), v.size() * sizeof(Half));
    AttentionConfig config = prefill_config(c, DType::f16, SplitPolicy::none);
    config.cache.page_size = 1;
    const std::span<const std::int32_t> qo_indptr = problem.qo_indptr;
    GpuWorkspace memory(BatchPrefillWithRaggedKVCache::workspace_bytes(config, qo_indptr, kv_indptr));
    BatchPrefillWithRaggedKVCache ragged(config, memory.view());
    ragged.plan(qo_indptr, kv_indptr);
    GpuOutput out(static_cast<std::int32_t>(c.q.shape[0]), config);
    const std::int64_t tokens = kv_indptr.back();
    ragged.run(on_device.view().q, contiguous(device_k.data(), DType::f16, {tokens, 2, 128}),
               contiguous(device_v.data(), DType::f16, {tokens, 2, 128}), out.view());
    CHECK((out.result(nullptr) == paged));
  }
}
