// A cascade on the GPU: against one flat attention's oracle, the same bits whatever is planned between and in flight, in a
// captured graph, and with programmatic launches. All cases have pages of their own sizes, so that fa3 copies some.
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>

#include "gpu/device.hpp"
#include "ladder/oracle.hpp"
#include "ladder/rung.hpp"
#include "tests/api_gpu.hpp"
#include "tests/cascade_case.hpp"
#include "tests/gpu_cases.hpp"
#include "tests/options.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

AttentionConfig gpu_config(const CascadeCase& given, DType o_dtype, SplitPolicy policy = SplitPolicy::balanced) {
  AttentionConfig config = config_of(given.c.spec, Device::gpu, o_dtype);
  config.execution.policy = policy;
  config.execution.chunk_size = 64;
  return config;
}

// A cascade's data on the GPU, and a place for its output.
struct OnGpu {
  const CascadeCase& given;
  gpu::DeviceProblem problem;
  std::vector<gpu::DeviceBuffer> ids;
  GpuOutput output;

  OnGpu(const CascadeCase& given_, const AttentionConfig& config)
      : given(given_), problem(given.c.problem()), output(static_cast<std::int32_t>(given.c.q.shape[0]), config) {
    for (const auto& level : given.page_ids()) ids.emplace_back(level.data(), level.size_bytes());
  }
  void plan_and_run(MultiLevelCascadeAttention& cascade, cudaStream_t stream) {
    cascade.plan(given.lengths(), stream);
    run(cascade, stream);
  }
  void run(MultiLevelCascadeAttention& cascade, cudaStream_t stream) {
    std::vector<std::span<const std::int32_t>> page_ids;
    for (std::size_t l = 0; l < ids.size(); ++l) page_ids.push_back({ids[l].as<std::int32_t>(), given.page_ids()[l].size()});
    cascade.run(problem.view().q, problem.view().kv, page_ids, output.view(), stream, problem.view().sinks);
  }
};

std::int32_t levels_of(const CascadeCase& given) { return static_cast<std::int32_t>(given.levels.size()); }

Result by_cascade(const CascadeCase& given, const AttentionConfig& config) {
  OnGpu on_gpu(given, config);
  GpuWorkspace memory(MultiLevelCascadeAttention::workspace_bytes(config, given.lengths()));
  MultiLevelCascadeAttention cascade(levels_of(given), config, memory.view());
  on_gpu.plan_and_run(cascade, nullptr);
  Result result = on_gpu.output.result(nullptr);
  CHECK(memory.guards_intact());
  return result;
}

// Any of these kernels may compute a level, so each row may err as the one that rounds most.
Rounding loosest(const CaseSpec& spec) {
  Rounding loosest;
  for (const char* name : {"D6", "P1", "P5", "P11"}) loosest = std::max(loosest, rung(name).rounding(spec));
  return loosest;
}

void check_cascade(const CascadeCase& given, SplitPolicy policy, Backend backend = Backend::automatic) {
  const CaseSpec& spec = given.c.spec;
  AttentionConfig config = gpu_config(given, DType::f32, policy);
  config.execution.backend = backend;
  INFO("seed ", spec.seed, ", ", given.levels.size(), " levels, page_size ", spec.page_size, ", ", name_of(spec.dtype),
       ", policy ", name_of(policy), "\n", MultiLevelCascadeAttention(levels_of(given), config, {}).explain());
  const Oracle oracle = make_oracle(given.c, loosest(spec));
  const Result exact = by_cascade(given, config);
  const Comparison comparison = compare(given.c, exact.floats(), exact.lse_log2, oracle);
  CHECK_MESSAGE(comparison.ok(), comparison.message());
  config.o_dtype = spec.dtype;
  CHECK(by_cascade(given, config).o == rounded(exact.floats(), spec.dtype));
}

CaseSpec gpu_cascade_spec(std::int32_t page_size, DType dtype = DType::f16) {
  CaseSpec spec = cascade_spec(page_size, dtype);
  spec.params = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 128, .head_dim_vo = 128, .sm_scale = 0.09f};
  return spec;
}

}  // namespace

TEST_CASE("a cascade on the GPU equals one flat attention") {
  const bool hopper = gpu::why_no_hopper().empty();
  for (const std::int32_t page_size : {1, 5, 16}) {
    for (const DType dtype : {DType::f16, DType::bf16}) {
      for (const auto& shared : {two_levels(), three_levels()}) {
        for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::fixed}) {
          CaseSpec spec = gpu_cascade_spec(page_size, dtype);
          check_cascade({spec, shared}, policy);
          spec.params.mask = MaskMode::causal, spec.params.sinks = true;
          spec.kv_lens[3] = 1;  // else all that the request has is a prefix, which may be empty
          check_cascade({spec, shared}, policy);
          if (hopper) check_cascade({spec, shared}, policy, Backend::fa3);
          check_cascade({spec, shared}, policy, Backend::fa2);
          spec.params.logits_soft_cap = 15;
          check_cascade({spec, shared}, policy);
        }
      }
    }
  }
}

TEST_CASE("random cascades on the GPU equal one flat attention") {
  const int cases = options().cases_or(60);
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const auto seed = options().seed + static_cast<std::uint64_t>(i);
    check_cascade(random_cascade(seed, i % 2 ? DType::f16 : DType::bf16),
                  i % 3 ? SplitPolicy::balanced : SplitPolicy::fixed);
  }
}

// What it is for: a long prefix, many requests of one query.
TEST_CASE("a cascade of many decodes behind one long prefix equals one flat attention") {
  CaseSpec spec = gpu_cascade_spec(16);
  spec.qo_lens.assign(24, 1), spec.kv_lens.clear();
  for (std::int32_t r = 0; r < 24; ++r) spec.kv_lens.push_back(r * 11 % 90 + 1);
  spec.params.num_qo_heads = 32, spec.params.num_kv_heads = 8;
  check_cascade({spec, {{{24, 128}}}}, SplitPolicy::balanced);
  check_cascade({spec, {{{24, 64}}, {{9, 40}, {15, 3}}}}, SplitPolicy::balanced);
}

// Plans follow each other without a wait, so parts of the workspace move while runs and copies of older plans are in flight.
// Batches have more rows, a longer prefix or longer suffixes than the one before. Each plan runs twice: nothing that the
// first run writes may lie where a plan does.
TEST_CASE("a cascade planned again never touches a plan that is in flight") {
  std::vector<CascadeCase> batches;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    CaseSpec spec = gpu_cascade_spec(16);
    spec.seed = seed;
    for (std::size_t r = 0; r < spec.kv_lens.size(); ++r) {
      spec.qo_lens[r] += static_cast<std::int32_t>(seed % 3) * 7;
      spec.kv_lens[r] += seed % 2 ? static_cast<std::int32_t>(seed * r * 131 % 900) : 0;
    }
    batches.push_back({spec, {{{3, static_cast<std::int32_t>(40 / seed)}, {4, static_cast<std::int32_t>(9 * seed)}}}});
  }
  const AttentionConfig config = gpu_config(batches[0], DType::f16);
  std::vector<Result> alone;
  WorkspaceBytes most;
  std::vector<std::unique_ptr<OnGpu>> on_gpu;
  for (const CascadeCase& batch : batches) {
    alone.push_back(by_cascade(batch, config));
    const WorkspaceBytes bytes = MultiLevelCascadeAttention::workspace_bytes(config, batch.lengths());
    most.device = std::max(most.device, bytes.device), most.staging = std::max(most.staging, bytes.staging);
    on_gpu.push_back(std::make_unique<OnGpu>(batch, config));
  }
  for (const std::size_t room : {std::size_t{0}, std::size_t{1} << 20}) {
    GpuWorkspace memory({.device = most.device + room, .staging = most.staging + room});
    MultiLevelCascadeAttention cascade(2, config, memory.view());
    const GpuStream stream;
    for (int turn = 0; turn < 20; ++turn) {
      for (auto& batch : on_gpu) batch->output.poison(stream);
      for (std::size_t b = 0; b < on_gpu.size(); ++b) {
        OnGpu& batch = *on_gpu[turn % 2 ? on_gpu.size() - 1 - b : b];
        batch.plan_and_run(cascade, stream);
        batch.run(cascade, stream);
      }
      for (std::size_t b = 0; b < on_gpu.size(); ++b) {
        INFO("turn ", turn, ", batch ", b, ", room ", room);
        CHECK((on_gpu[b]->output.result(stream) == alone[b]));
      }
    }
    CHECK(memory.guards_intact());
  }
}

TEST_CASE("a captured cascade replays its plan and refuses another one") {
  CaseSpec spec = gpu_cascade_spec(16);
  spec.params.sinks = true;
  const CascadeCase given(spec, three_levels());
  AttentionConfig config = gpu_config(given, DType::f16);
  const Result want = by_cascade(given, config);
  for (const bool enable_pdl : {false, true}) {
    config.execution.enable_pdl = enable_pdl;
    OnGpu on_gpu(given, config);
    GpuWorkspace memory(MultiLevelCascadeAttention::workspace_bytes(config, given.lengths()));
    MultiLevelCascadeAttention cascade(3, config, memory.view());
    const GpuStream stream;
    cascade.plan(given.lengths(), stream);
    const GpuGraph graph(stream, [&] { on_gpu.run(cascade, stream); });
    for (int replay = 0; replay < 100; ++replay) {
      if (replay % 10 == 0) on_gpu.output.poison(stream);
      graph.launch(stream);
    }
    CHECK((on_gpu.output.result(stream) == want));
    CHECK(refusal([&] { cascade.plan(given.lengths(), stream); }).starts_with("plan(): would change what a graph replays"));
    on_gpu.run(cascade, stream);  // refused, it left the plan in force
    CHECK((on_gpu.output.result(stream) == want));
  }
}

TEST_CASE("a cascade on the GPU gives a natural lse and no lse") {
  const CascadeCase given(gpu_cascade_spec(16), two_levels());
  const AttentionConfig config = gpu_config(given, DType::f32);
  OnGpu on_gpu(given, config);
  GpuWorkspace memory(MultiLevelCascadeAttention::workspace_bytes(config, given.lengths()));
  MultiLevelCascadeAttention cascade(2, config, memory.view());
  on_gpu.plan_and_run(cascade, nullptr);
  const Result want = on_gpu.output.result(nullptr);
  const AttentionOutput out = on_gpu.output.view();
  const std::vector<std::span<const std::int32_t>> ids{{on_gpu.ids[0].as<std::int32_t>(), given.page_ids()[0].size()},
                                                       {on_gpu.ids[1].as<std::int32_t>(), given.page_ids()[1].size()}};
  const AttentionProblem& view = on_gpu.problem.view();
  cascade.run(view.q, view.kv, ids, {.o = out.o, .lse_log2 = {}, .lse_natural = out.lse_log2});
  const Result natural = on_gpu.output.result(nullptr);
  CHECK(natural.o == want.o);
  for (std::size_t i = 0; i < want.lse_log2.size(); ++i) {
    CHECK(natural.lse_log2[i] == want.lse_log2[i] * lse_natural_from_log2(1.0f));
  }
  on_gpu.output.poison(nullptr);
  cascade.run(view.q, view.kv, ids, {.o = out.o});
  CHECK(on_gpu.output.result(nullptr).o == want.o);
}

TEST_CASE("a cascade on the GPU refuses too little memory and memory and streams that are not its own") {
  const CascadeCase given(gpu_cascade_spec(16), two_levels());
  const AttentionConfig config = gpu_config(given, DType::f16);
  const WorkspaceBytes bytes = MultiLevelCascadeAttention::workspace_bytes(config, given.lengths());
  const WorkspaceBytes for_limits = MultiLevelCascadeAttention::workspace_bytes(config, given.limits());
  CHECK(for_limits.device >= bytes.device);
  CHECK(for_limits.staging >= bytes.staging);
  const auto planned_in = [&](std::size_t device, std::size_t staging) {
    GpuWorkspace memory({.device = device, .staging = staging});
    MultiLevelCascadeAttention cascade(2, config, memory.view());
    return refusal([&] { cascade.plan(given.lengths()); });
  };
  CHECK(planned_in(bytes.device, bytes.staging) == "accepted");
  CHECK(planned_in(bytes.device - 1, bytes.staging).starts_with("workspace.device bytes = "));
  CHECK(planned_in(bytes.device, bytes.staging - 1).starts_with("workspace.staging bytes = "));
  std::vector<std::byte> host(1024);
  const std::string refused = refusal([&] { MultiLevelCascadeAttention(2, config, {.device = host}); });
  CHECK(refused.starts_with("workspace.device: must be device memory"));

  GpuWorkspace memory(bytes);
  MultiLevelCascadeAttention cascade(2, config, memory.view());
  OnGpu on_gpu(given, config);
  const GpuStream planned, other;
  cascade.plan(given.lengths(), planned);
  CHECK(refusal([&] { on_gpu.run(cascade, other); }).starts_with("levels[0].stream: must be the one that plan()"));
  gpu::check(cudaStreamSynchronize(planned));
}

// Pages of 5 tokens: with all the memory fa3 computes the prefix on a copy, with the least of it fa2 where the pages lie.
TEST_CASE("a cascade whose pages may be copied plans in the least memory too") {
  if (!gpu::why_no_hopper().empty()) return;
  CaseSpec spec = gpu_cascade_spec(5);
  spec.qo_lens.assign(2, 400), spec.kv_lens.assign(2, 4400);
  const CascadeCase given(spec, {{{2, 4000}}});  // of fewer keys the copy is smaller than what fa2 needs for partial rows
  const AttentionConfig config = gpu_config(given, DType::f16);
  const WorkspaceBytes bytes = MultiLevelCascadeAttention::workspace_bytes(config, given.lengths());
  REQUIRE(bytes.least_device < bytes.device);
  const Oracle oracle = make_oracle(given.c, loosest(spec));
  for (const std::size_t device : {bytes.device, bytes.device - 1, bytes.least_device}) {
    AttentionConfig f32 = config;
    f32.o_dtype = DType::f32;
    OnGpu on_gpu(given, f32);
    GpuWorkspace memory({.device = device, .staging = bytes.staging});
    MultiLevelCascadeAttention cascade(2, f32, memory.view());
    on_gpu.plan_and_run(cascade, nullptr);
    const bool copied = cascade.explain().find("level 0: fa3") != std::string::npos;
    CHECK(copied == (device == bytes.device));
    const Result result = on_gpu.output.result(nullptr);
    const Comparison comparison = compare(given.c, result.floats(), result.lse_log2, oracle);
    CHECK_MESSAGE(comparison.ok(), comparison.message());
  }
}
