// Many queries a request on the GPU through the public classes: every case of the table against the oracle, by page lists
// and by block tables.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "api/attention_session.hpp"
#include "api/batch_prefill.hpp"
#include "api/gpu_call.hpp"
#include "gpu/decode/decode.hpp"
#include "gpu/device.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "ladder/rung.hpp"
#include "tests/api_gpu_prefill.hpp"
#include "tests/gpu_cases.hpp"
#include "tests/options.hpp"
#include "tests/ragged_case.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

AttentionConfig prefill_config(const CaseSpec& spec, DType o_dtype, SplitPolicy policy, Backend backend = Backend::automatic) {
  AttentionConfig config = config_of(spec, Device::gpu, o_dtype);
  config.execution.backend = backend;
  config.execution.policy = policy;
  config.execution.chunk_size = 64;
  return config;
}

Result prefill(const Case& c, DType o_dtype, SplitPolicy policy, Backend backend = Backend::automatic) {
  return prefill_on_gpu(c, prefill_config(c.spec, o_dtype, policy, backend));
}

// The rung that an object's kernel is for these queries: decode's, or what the object says of itself.
const Rung& rung_behind(const AttentionConfig& config, const CaseSpec& spec) {
  const std::int32_t most = spec.qo_lens.empty() ? 0 : std::ranges::max(spec.qo_lens);
  if (choose_kernel(config, {.decode = false}).kernel_for(most) == GpuKernel::d6) return rung("D6");
  const std::string why = AttentionSession(config, {.decode = false}).explain();
  return rung(why.starts_with("fa3: P11") ? "P11" : why.starts_with("fa2: P5") ? "P5" : "P1");
}

void check_prefill(const Case& c, SplitPolicy policy, Backend backend) {
  const CaseSpec& spec = c.spec;
  INFO("case: ", spec.name, " (seed ", spec.seed, "), backend ", std::string(name_of(backend)));
  const Oracle oracle = make_oracle(c, rung_behind(prefill_config(c.spec, DType::f32, policy, backend), spec).rounding(spec));
  const Result exact = prefill(c, DType::f32, policy, backend);
  const Comparison comparison = compare(c, exact.floats(), exact.lse_log2, oracle);
  CHECK_MESSAGE(comparison.ok(), comparison.message());
  if (spec.dtype == DType::f32) return;
  CHECK(prefill(c, spec.dtype, policy, backend).o == rounded(exact.floats(), spec.dtype));
}

// Scales of K for each head are not for every kernel, which the policy has a part in, and what is not refused by the config
// is refused by run().
bool takes_scales_per_head(const CaseSpec& spec, SplitPolicy policy) {
  return rung_behind(prefill_config(spec, DType::f32, policy), spec).supports(spec).reason.empty();
}

// Pages that fa3 copies together first are, in cases as small as these, read in place unless it is asked for; RoPE takes a
// copy in both backends.
void check_prefill(const CaseSpec& spec, SplitPolicy policy) {
  if (spec.kv_scales == KvScaling::per_head && !takes_scales_per_head(spec, policy)) return;
  const Case c = draw_case(decidable(spec));
  check_prefill(c, policy, Backend::automatic);
  const bool rope = spec.params.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA;
  if (spec.page_size % 8 != 0 && rung("P11").supports(spec)) check_prefill(c, policy, Backend::fa3);
  if (rope && rung("P5").supports(spec)) check_prefill(c, policy, Backend::fa2);
}

}  // namespace

TEST_CASE("prefill on the GPU equals the oracle on the case table") {
  for (const CaseSpec& spec : case_table()) {
    for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::fixed}) check_prefill(spec, policy);
  }
}

TEST_CASE("prefill on the GPU equals the oracle on random cases") {
  const int cases = options().cases_or(100);
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const auto seed = options().seed + static_cast<std::uint64_t>(i);
    const CaseSpec spec = i % 2 ? random_spec(seed) : random_fast_prefill(seed);
    const SplitPolicy policy = i % 3 ? SplitPolicy::balanced : SplitPolicy::fixed;
    if (i % 8 >= 3) check_prefill(spec, policy);
    else check_prefill(on_fp8(spec, static_cast<std::uint64_t>(i)), policy);
  }
}

// Drafts of a few tokens: decode's kernel, where all rows of a request are a tile of it.
TEST_CASE("few queries a request on the GPU are a decode, and equal the oracle") {
  int decoded = 0;
  for (int i = 0; i < options().cases_or(60); ++i) {
    const auto seed = options().seed + static_cast<std::uint64_t>(i);
    CaseSpec spec = random_few_queries(seed);
    spec.values = Values::normal;
    if (i % 3 == 0) spec = on_fp8(spec, static_cast<std::uint64_t>(i / 3));
    const AttentionConfig config = prefill_config(spec, DType::f32, SplitPolicy::balanced);
    decoded += rung_behind(config, spec).name == "D6";
    check_prefill(spec, i % 5 == 0 ? SplitPolicy::fixed : SplitPolicy::balanced);
  }
  CHECK(decoded > 0);
}

TEST_CASE("a backend is taken or refused with the reason; both give one answer") {
  CaseSpec spec = as_plain_prefill(random_fast_prefill(6));
  spec.page_size = 16;
  const Case c = draw_case(spec);
  AttentionConfig config = prefill_config(c.spec, DType::f32, SplitPolicy::balanced);
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
  CHECK(AttentionSession(config, {.decode = false}).explain() ==
        "fa3: P11, for Hopper GPUs, on K and V that are copied together first: page_size 4, which is no multiple of 8");
  config.execution.backend = Backend::automatic;
  const std::int32_t most = gpu::d6::most_queries(config.params());
  const std::string queries = most == 1 ? "one query" : std::to_string(most) + " queries";
  CHECK(AttentionSession(config, {.decode = false}).explain() ==
        "fa2: P5, for Ampere and newer GPUs; not fa3: page_size 4, which is no multiple of 8; plan() decides for each batch "
        "whether to copy K and V together first, for fa3; D6 for a plan in which no request has more than " + queries);
}

// Requests begin at any row: the last tiles lie at the very end of the memory.
TEST_CASE("a ragged cache gives the bits of a paged one, of any page size on Hopper") {
  const bool hopper = gpu::why_no_hopper().empty();
  for (const std::int32_t last : {1, 77, 128, 300, -16, -3, -1}) {
    const std::int32_t page_size = last < 0 ? -last : 16, len = last < 0 ? 77 : last;
    if (page_size % 8 != 0 && !hopper) continue;
    CaseSpec spec{.name = "ragged", .seed = 5, .qo_lens = {5, 130, 0, 64, len}, .kv_lens = {5, 331, 7, 64, len},
                  .page_size = page_size, .dtype = DType::f16};
    spec.params = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128, .mask = MaskMode::causal};
    const Case c = draw_case(spec);
    const RaggedCase tokens(c.problem());
    const Backend backend = page_size % 8 == 0 ? Backend::automatic : Backend::fa3;
    const Result paged = prefill(c, DType::f16, SplitPolicy::none, backend);
    const gpu::DeviceProblem on_device(c.problem());
    const gpu::DeviceBuffer k(tokens.k.data(), tokens.k.size() * sizeof(Half));
    const gpu::DeviceBuffer v(tokens.v.data(), tokens.v.size() * sizeof(Half));
    AttentionConfig config = prefill_config(c.spec, DType::f16, SplitPolicy::none);
    config.cache.page_size = 1;
    GpuWorkspace memory(BatchPrefillWithRaggedKVCache::workspace_bytes(config, c.qo_indptr, tokens.kv_indptr));
    BatchPrefillWithRaggedKVCache ragged(config, memory.view());
    ragged.plan(c.qo_indptr, tokens.kv_indptr);
    GpuOutput out(static_cast<std::int32_t>(c.q.shape[0]), config);
    const std::int64_t rows = tokens.kv_indptr.back();
    ragged.run(on_device.view().q, contiguous(k.data(), DType::f16, {rows, 2, 128}),
               contiguous(v.data(), DType::f16, {rows, 2, 128}), out.view());
    CHECK((out.result(nullptr) == paged));
  }
}
