// A prefill's lengths that lie on the GPU: its planner makes the host's plan; plan and run give the bits of a plan of the same
// lengths on the host, uncut; a graph that captured both plans anew in every replay. tests/gpu_plan_prefill.cpp runs the
// planner's code without a GPU.
#include <doctest/doctest.h>

#include <algorithm>

#include "gpu/plan/plan_prefill.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "tests/api_gpu.hpp"
#include "tests/gpu_cases.hpp"
#include "tests/gpu_lengths.hpp"
#include "tests/options.hpp"
#include "tests/prefill_plans.hpp"
#include "tests/refusal.hpp"
#include "tests/skip_without_device.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

// What the kernel makes of a batch, downloaded.
PackedPlan kernel_plan(const PlannedPrefill& batch, const gpu::PackedShape& shape) {
  const auto requests = static_cast<std::int32_t>(batch.kv_lens.size());
  const gpu::DeviceBuffer kv_lens = on_gpu(batch.kv_lens), qo_lens = on_gpu(batch.qo_lens), begins = on_gpu(batch.qo_indptr);
  const gpu::DeviceBuffer indptr = on_gpu(batch.paged_kv_indptr), last = on_gpu(batch.paged_kv_last_page_len);
  const PageTable table =
      batch.page_lists ? PageTable{indptr.as<std::int32_t>(), nullptr, last.as<std::int32_t>(), batch.page_size, requests}
                       : block_table(nullptr, kv_lens.as<std::int32_t>(), batch.max_pages, batch.page_size, requests);
  PackedPlan plan(shape);
  gpu::DeviceBuffer packed(plan.bytes.size(), gpu::DeviceBuffer::guard_band);
  packed.poison();
  const gpu::PrefillPlanParams params = device_params(batch, table, begins.as<std::int32_t>(), qo_lens.as<std::int32_t>(),
                                                      gpu::view_of(shape, packed.data()));
  gpu::DeviceBuffer scratch(gpu::plan_scratch_bytes(params), gpu::DeviceBuffer::guard_band);
  scratch.poison();
  gpu::plan_prefill(params, scratch.data(), nullptr, false);
  gpu::check(cudaDeviceSynchronize());
  packed.download(plan.bytes.data());
  CHECK(packed.guards_intact());
  CHECK(scratch.guards_intact());
  return plan;
}

// Requests of fewer than 128 queries, so that P11 packs the group whatever their sum is: the host's choice is the device's.
Case prompts() {
  CaseSpec spec{.name = "prompts", .seed = 17, .qo_lens = {100, 7, 64, 1, 90, 100}, .kv_lens = {1700, 40, 900, 411, 90, 3000},
                .page_size = 16, .dtype = DType::bf16};
  spec.params = {.num_qo_heads = 20, .num_kv_heads = 4, .head_dim_qk = 128, .head_dim_vo = 128, .sm_scale = 0.08f,
                 .mask = MaskMode::causal};
  return draw_case(spec);
}

// Some lengths no longer than the case's.
void draw_lengths(Random& random, const Case& c, std::vector<std::int32_t>& qo_indptr, std::vector<std::int32_t>& seq_lens) {
  for (std::size_t b = 0; b < seq_lens.size(); ++b) {
    const auto at_most = [&](std::int32_t n) {
      return static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(n) + 1));
    };
    qo_indptr[b + 1] = qo_indptr[b] + at_most(c.spec.qo_lens[b]);
    seq_lens[b] = at_most(c.spec.kv_lens[b]);
  }
}

// What a plan on the host, policy none, gives for the same rows of q.
Result by_host(const Case& c, const AttentionConfig& config, const gpu::DeviceProblem& on_device, const BlockTable& table,
               const gpu::DeviceBuffer& entries, const std::vector<std::int32_t>& qo_indptr,
               const std::vector<std::int32_t>& seq_lens, GpuOutput& out, cudaStream_t stream) {
  const BlockTableLengths lengths{seq_lens, table.max_pages};
  GpuWorkspace memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, qo_indptr, lengths));
  BatchPrefillWithPagedKVCache host(config, memory.view());
  host.plan(qo_indptr, lengths, stream);
  out.poison(stream);
  AttentionOutput view = out.view();
  Tensor q = on_device.view().q;
  q.shape[0] = view.o.shape[0] = qo_indptr.back();
  view.lse_log2 = view.lse_log2.first(static_cast<std::size_t>(qo_indptr.back() * c.spec.params.num_qo_heads));
  host.run(q, on_device.view().kv, ints(entries), view, stream);
  return out.result(stream);
}

}  // namespace

TEST_CASE("the kernel that plans a prefill makes the host's plan in every record, on random batches") {
  const int cases = options().cases_or(400);
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t seed = options().seed + static_cast<std::uint64_t>(i);
    CAPTURE(seed);
    const PlannedPrefill batch = random_prefill(seed);
    if (batch.kv_lens.empty()) continue;  // plan() launches nothing for it
    CAPTURE(describe(batch));
    const PackedPlan host = host_plan(batch);
    REQUIRE(difference(host, kernel_plan(batch, room_for(batch, host.shape))) == "");
  }
}

TEST_CASE("a graph of a prefill's plan and run plans anew in every replay, with the bits of the host's plan") {
  const Case c = prompts();
  const gpu::DeviceProblem on_device(c.problem());
  const GpuStream stream;
  const BlockTable table(c);
  const gpu::DeviceBuffer entries = on_gpu(table.entries);
  const auto rows = static_cast<std::int32_t>(c.q.shape[0]);
  MESSAGE("--seed ", options().seed);
  for (const Backend backend : {Backend::automatic, Backend::fa2}) {
    AttentionConfig config = config_of(c.spec, Device::gpu, c.spec.dtype);
    config.execution.policy = SplitPolicy::none;
    config.execution.backend = backend;
    config.execution.enable_pdl = backend == Backend::automatic;
    std::vector<std::int32_t> qo_indptr = c.qo_indptr, seq_lens = c.spec.kv_lens;
    const gpu::DeviceBuffer begins = on_gpu(qo_indptr), lens = on_gpu(seq_lens);
    const DeviceQueryLengths queries{ints(begins), rows, 100};
    const DeviceBlockTableLengths lengths{ints(lens), table.max_pages, 3000};
    GpuWorkspace memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, queries, lengths));
    BatchPrefillWithPagedKVCache prefill(config, memory.view());
    GpuOutput captured(rows, config), again(rows, config), alone(rows, config);
    const GpuGraph graph(stream, [&] {
      prefill.plan(queries, lengths, stream);
      prefill.run(on_device.view().q, on_device.view().kv, ints(entries), captured.view(), stream);
      prefill.run(on_device.view().q, on_device.view().kv, ints(entries), again.view(), stream);  // a second layer
    });
    Random random(options().seed);
    for (int i = 0; i < 20; ++i) {
      if (i > 0) draw_lengths(random, c, qo_indptr, seq_lens);
      gpu::check(cudaMemcpyAsync(begins.data(), qo_indptr.data(), begins.size(), cudaMemcpyHostToDevice, stream));
      gpu::check(cudaMemcpyAsync(lens.data(), seq_lens.data(), lens.size(), cudaMemcpyHostToDevice, stream));
      captured.poison(stream), again.poison(stream);
      graph.launch(stream);
      const Result expected = by_host(c, config, on_device, table, entries, qo_indptr, seq_lens, alone, stream);
      CHECK((captured.result(stream) == expected));  // rows of no request are the same poison
      CHECK((again.result(stream) == expected));
    }
    CHECK(memory.guards_intact());
  }
}

TEST_CASE("a prefill's lengths on the GPU that can't be refused there are cut down to what memory was bought for") {
  const Case c = prompts();
  const gpu::DeviceProblem on_device(c.problem());
  const BlockTable table(c);
  const gpu::DeviceBuffer entries = on_gpu(table.entries);
  AttentionConfig config = config_of(c.spec, Device::gpu, c.spec.dtype);
  config.execution.policy = SplitPolicy::none;
  const auto rows = static_cast<std::int32_t>(c.q.shape[0]);
  const auto prefilled = [&](const std::vector<std::int32_t>& qo_indptr, const std::vector<std::int32_t>& seq_lens) {
    const gpu::DeviceBuffer begins = on_gpu(qo_indptr), lens = on_gpu(seq_lens);
    const DeviceQueryLengths queries{ints(begins), rows, 80};
    const DeviceBlockTableLengths lengths{ints(lens), table.max_pages, 400};
    GpuWorkspace memory(BatchPrefillWithPagedKVCache::workspace_bytes(config, queries, lengths));
    BatchPrefillWithPagedKVCache prefill(config, memory.view());
    GpuOutput out(rows, config);
    prefill.plan(queries, lengths);
    prefill.run(on_device.view().q, on_device.view().kv, ints(entries), out.view());
    const Result result = out.result(nullptr);
    CHECK(memory.guards_intact());
    return result;
  };
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max(), least = std::numeric_limits<std::int32_t>::min();
  CHECK((prefilled({-9, 70, 60, 60, most, most - 1, 8}, {1700, -7, most, 411, 90, least}) ==
         prefilled({0, 79, 79, 79, 159, 159, 159}, {400, 0, 400, 400, 90, 0})));
}

TEST_CASE("a prefill's lengths on the GPU: what is refused there") {
  const Case c = prompts();
  const BlockTable table(c);
  const gpu::DeviceBuffer begins = on_gpu(c.qo_indptr), lens = on_gpu(c.spec.kv_lens);
  const DeviceQueryLengths queries{ints(begins), c.q.shape[0], 100};
  const DeviceBlockTableLengths lengths{ints(lens), table.max_pages, 3000};
  AttentionConfig config = config_of(c.spec, Device::gpu, c.spec.dtype);
  config.execution.policy = SplitPolicy::none;
  const auto said = [&] {
    return refusal([&] { BatchPrefillWithPagedKVCache::workspace_bytes(config, queries, lengths); });
  };
  CHECK(said() == "accepted");
  CHECK(BatchPrefillWithPagedKVCache::workspace_bytes(config, queries, lengths).staging == 0);
  config.logits.pos_encoding_mode = PosEncodingMode::ROPE_LLAMA;
  CHECK(said().starts_with("lengths = on the device: can't be taken where K and V are copied first"));
  config.logits.pos_encoding_mode = PosEncodingMode::NONE;
  config.q_dtype = c.spec.dtype, config.cache.dtype = DType::f8_e4m3;
  CHECK(said().starts_with("lengths = on the device: can't be taken where K and V are copied first"));
}
