// Lengths that lie on the GPU: its planner makes the host's plan; plan and run equal the oracle; a graph that captured both
// plans anew in every replay. tests/gpu_plan_decode.cpp runs the planner's code without a GPU.
#include <doctest/doctest.h>

#include <algorithm>

#include "gpu/plan/plan_decode.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "tests/api_gpu.hpp"
#include "tests/device_plans.hpp"
#include "tests/gpu_cases.hpp"
#include "tests/gpu_lengths.hpp"
#include "tests/options.hpp"
#include "tests/refusal.hpp"
#include "tests/skip_without_device.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

// What the kernel makes of a batch, downloaded.
PackedPlan kernel_plan(const PlannedLengths& batch, const gpu::PackedShape& shape) {
  const auto requests = static_cast<std::int32_t>(batch.kv_lens.size());
  const gpu::DeviceBuffer lens = on_gpu(batch.kv_lens), indptr = on_gpu(batch.paged_kv_indptr);
  const gpu::DeviceBuffer last = on_gpu(batch.paged_kv_last_page_len);
  const PageTable table =
      batch.page_lists ? PageTable{indptr.as<std::int32_t>(), nullptr, last.as<std::int32_t>(), batch.page_size, requests}
                       : block_table(nullptr, lens.as<std::int32_t>(), batch.max_pages, batch.page_size, requests);
  PackedPlan plan(shape);
  gpu::DeviceBuffer packed(plan.bytes.size(), gpu::DeviceBuffer::guard_band);
  packed.poison();
  gpu::DecodePlanParams params = device_params(batch, table, plan);
  params.view = gpu::view_of(shape, packed.data());
  gpu::DeviceBuffer scratch(gpu::plan_scratch_bytes(params), gpu::DeviceBuffer::guard_band);
  scratch.poison();
  gpu::plan_decode(params, scratch.data(), nullptr, false);
  gpu::check(cudaDeviceSynchronize());
  packed.download(plan.bytes.data());
  CHECK(packed.guards_intact());
  CHECK(scratch.guards_intact());
  return plan;
}

Case pool() {
  CaseSpec spec{.name = "pool", .seed = 11, .qo_lens = {}, .kv_lens = {1700, 40, 900, 411, 64, 128, 1, 3000, 17, 5000},
                .dtype = DType::bf16};
  spec.qo_lens.assign(spec.kv_lens.size(), 1);
  spec.params = {.num_qo_heads = 20, .num_kv_heads = 4, .head_dim_qk = 128, .head_dim_vo = 128, .sm_scale = 0.08f};
  return draw_case(spec);
}

}  // namespace

TEST_CASE("the planner's kernel makes the host's plan in every record, on random batches") {
  const int cases = options().cases_or(400);
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t seed = options().seed + static_cast<std::uint64_t>(i);
    CAPTURE(seed);
    const PlannedLengths batch = random_lengths(seed);
    if (batch.kv_lens.empty()) continue;  // plan() launches nothing for it
    CAPTURE(describe(batch));
    const PackedPlan host = host_plan(batch);
    REQUIRE(difference(host, kernel_plan(batch, host.shape)) == "");
  }
}

TEST_CASE("lengths on the GPU: plan and run equal the oracle on random decode cases") {
  const int cases = options().cases_or(150);
  constexpr SplitPolicy policies[] = {SplitPolicy::balanced, SplitPolicy::fixed, SplitPolicy::none,
                                      SplitPolicy::even};
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    CaseSpec spec = for_decode_class(random_decode(options().seed + static_cast<std::uint64_t>(i)));
    spec.custom_mask = CustomMask::none;
    if (spec.params.mask == MaskMode::custom) spec.params.mask = MaskMode::none;
    INFO("case: ", spec.name, " (seed ", spec.seed, ")");
    const Case c = draw_case(spec);
    AttentionConfig config = config_of(spec, Device::gpu, DType::f32);
    config.execution.policy = policies[i % 4];
    config.execution.chunk_size = 64;
    config.execution.enable_pdl = i % 2 == 1;
    const gpu::DeviceProblem on_device(c.problem());
    const AttentionProblem& view = on_device.view();
    const BlockTable table(c);
    const gpu::DeviceBuffer lens = on_gpu(spec.kv_lens), entries = on_gpu(table.entries);
    const std::int32_t longest = spec.kv_lens.empty() ? 0 : *std::ranges::max_element(spec.kv_lens);
    const DeviceBlockTableLengths dense{ints(lens), table.max_pages, longest};
    const DevicePageListLengths lists{view.paged_kv_indptr, view.paged_kv_last_page_len, longest};
    const auto plan_and_run = [&](const auto& lengths, std::span<const std::int32_t> ids) {
      GpuWorkspace memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, lengths));
      GpuOutput out(spec.batch(), config);
      BatchDecodeWithPagedKVCache decode(config, memory.view());
      decode.plan(lengths);
      decode.run(view.q, view.kv, ids, out.view(), nullptr, view.sinks);
      Result result = out.result(nullptr);
      CHECK(memory.guards_intact());
      return result;
    };
    const Oracle oracle = make_oracle(c, spec.dtype);
    const Result by_table = plan_and_run(dense, ints(entries));
    const Comparison comparison = compare(c, by_table.floats(), by_table.lse_log2, oracle);
    CHECK_MESSAGE(comparison.verdict() != Verdict::fail, comparison.message());
    CHECK((by_table == plan_and_run(lists, view.paged_kv_indices)));
  }
}

// But for policy balanced: the bits of a plan on the host, since both take D6.
TEST_CASE("a graph of plan and run plans anew in every replay, as the lengths change in place") {
  const Case c = pool();
  const gpu::DeviceProblem on_device(c.problem());
  const PagedKvCache& kv = on_device.view().kv;
  const GpuStream stream;
  const BlockTable table(c);
  const gpu::DeviceBuffer entries = on_gpu(table.entries);
  for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::even, SplitPolicy::fixed, SplitPolicy::none}) {
    for (const bool pdl : {false, true}) {
      AttentionConfig config = config_of(c.spec, Device::gpu, c.spec.dtype);
      config.execution.policy = policy;
      config.execution.chunk_size = 256;
      config.execution.enable_pdl = pdl;
      std::vector<std::int32_t> seq_lens = c.spec.kv_lens;
      const gpu::DeviceBuffer lens = on_gpu(seq_lens);
      const DeviceBlockTableLengths lengths{ints(lens), table.max_pages, 5000};
      GpuWorkspace memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, lengths));
      GpuWorkspace eager_memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, lengths));
      BatchDecodeWithPagedKVCache decode(config, memory.view()), eager(config, eager_memory.view());
      Step captured(c, whole_batch(c), config), again(c, whole_batch(c), config), alone(c, whole_batch(c), config);
      const GpuGraph graph(stream, [&] {
        decode.plan(lengths, stream);
        decode.run(captured.q_tensor(), kv, ints(entries), captured.output.view(), stream);
        decode.run(again.q_tensor(), kv, ints(entries), again.output.view(), stream);  // a second layer
      });
      Random random(options().seed);
      MESSAGE("--seed ", options().seed);
      for (int i = 0; i < 30; ++i) {
        for (std::size_t b = 0; b < seq_lens.size(); ++b) {
          seq_lens[b] = static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(c.spec.kv_lens[b]) + 1));
        }
        gpu::check(cudaMemcpyAsync(lens.data(), seq_lens.data(), lens.size(), cudaMemcpyHostToDevice, stream));
        captured.output.poison(stream);
        again.output.poison(stream);
        graph.launch(stream);
        eager.plan(lengths, stream);
        eager.run(alone.q_tensor(), kv, ints(entries), alone.output.view(), stream);
        const Result once = alone.output.result(stream);
        CHECK((captured.output.result(stream) == once));
        CHECK((again.output.result(stream) == once));
        if (policy == SplitPolicy::balanced) continue;
        const BlockTableLengths on_host{seq_lens, table.max_pages};
        GpuWorkspace host_memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, on_host));
        BatchDecodeWithPagedKVCache host(config, host_memory.view());
        host.plan(on_host, stream);
        host.run(alone.q_tensor(), kv, ints(entries), alone.output.view(), stream);
        CHECK((alone.output.result(stream) == once));
      }
      CHECK(memory.guards_intact());
      CHECK(eager_memory.guards_intact());
    }
  }
}

TEST_CASE("lengths on the GPU that can't be refused there are cut down to what memory was bought for") {
  const Case c = pool();
  const gpu::DeviceProblem on_device(c.problem());
  const BlockTable table(c);
  const gpu::DeviceBuffer entries = on_gpu(table.entries);
  const AttentionConfig config = config_of(c.spec, Device::gpu, c.spec.dtype);
  const auto decoded = [&](const std::vector<std::int32_t>& seq_lens) {
    const gpu::DeviceBuffer lens = on_gpu(seq_lens);
    const DeviceBlockTableLengths lengths{ints(lens), table.max_pages, 400};
    GpuWorkspace memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, lengths));
    BatchDecodeWithPagedKVCache decode(config, memory.view());
    Step step(c, whole_batch(c), config);
    decode.plan(lengths);
    decode.run(step.q_tensor(), on_device.view().kv, ints(entries), step.output.view());
    const Result result = step.output.result(nullptr);
    CHECK(memory.guards_intact());
    return result;
  };
  std::vector<std::int32_t> bad = c.spec.kv_lens, cut = bad;  // some are longer than 400
  bad[1] = -7, bad[2] = std::numeric_limits<std::int32_t>::max(), bad[4] = std::numeric_limits<std::int32_t>::min();
  for (std::size_t b = 0; b < bad.size(); ++b) cut[b] = std::clamp(bad[b], 0, 400);
  CHECK((decoded(bad) == decoded(cut)));
}

TEST_CASE("lengths on the GPU: what is refused there") {
  const Case c = pool();
  const gpu::DeviceProblem on_device(c.problem());
  const PagedKvCache& kv = on_device.view().kv;
  const GpuStream stream;
  const BlockTable table(c);
  const gpu::DeviceBuffer entries = on_gpu(table.entries), lens = on_gpu(c.spec.kv_lens);
  const DeviceBlockTableLengths lengths{ints(lens), table.max_pages, 5000};
  const AttentionConfig config = config_of(c.spec, Device::gpu, c.spec.dtype);
  WorkspaceBytes bytes = BatchDecodeWithPagedKVCache::workspace_bytes(config, lengths);
  CHECK(bytes.staging == 0);
  GpuWorkspace memory(bytes), small({.device = bytes.device - 16});
  BatchDecodeWithPagedKVCache decode(config, memory.view()), too_small(config, small.view());
  Step step(c, whole_batch(c), config);
  const auto run = [&] { decode.run(step.q_tensor(), kv, ints(entries), step.output.view(), stream); };
  CHECK(refusal([&] { too_small.plan(lengths, stream); }).starts_with("workspace.device bytes = "));
  {
    const GpuGraph graph(stream, [&] { decode.plan(lengths, stream), run(); });
    CHECK(refusal(run) ==
          "run(): must be captured together with plan(), which was captured and has not run yet; or plan() again");
    decode.plan(lengths, stream);  // a plan of its own, between two replays
    run();
    const Result eager = step.output.result(stream);
    step.output.poison(stream);
    graph.launch(stream);
    CHECK((step.output.result(stream) == eager));
  }
  CHECK(refusal([&] { decode.current_plan(); }).starts_with("current_plan()"));
  const GpuGraph holds_one(stream, run);  // the eager plan: the graph must not see another
  CHECK(refusal([&] { decode.plan(lengths, stream); }).starts_with("plan()"));
}
