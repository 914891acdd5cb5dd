// Plan and run on the GPU: equal to the oracle; planned again while copies are in flight; captured once and replayed with
// other plans; two objects on two streams; and what is refused there. Skipped, visibly, without a GPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <thread>

#include "gpu/traffic.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/oracle.hpp"
#include "tests/api_gpu.hpp"
#include "tests/gpu_cases.hpp"
#include "tests/options.hpp"
#include "tests/skip_without_device.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

constexpr SplitPolicy policies[] = {SplitPolicy::balanced, SplitPolicy::fixed, SplitPolicy::none, SplitPolicy::count};

// A pool that batches of any kind are made from: short, long and empty requests.
Case pool_of_requests(std::uint64_t seed) {
  CaseSpec spec{.name = "pool", .seed = seed, .qo_lens = {}, .kv_lens = {1700, 3, 0, 40, 411, 64, 128, 1, 5000, 17},
                .dtype = DType::bf16};
  spec.qo_lens.assign(spec.kv_lens.size(), 1);
  spec.params = {.num_qo_heads = 20, .num_kv_heads = 4, .head_dim_qk = 128, .head_dim_vo = 128, .sm_scale = 0.08f};
  return draw_case(spec);
}

void check_decode(const CaseSpec& spec, SplitPolicy policy) {
  INFO("case: ", spec.name, " (seed ", spec.seed, ")");
  const Case c = draw_case(spec);
  const Oracle oracle = make_oracle(c, spec.dtype);
  AttentionConfig config = config_of(spec, Device::gpu, DType::f32);
  config.execution.policy = policy;
  config.execution.chunk_size = 64;
  const gpu::DeviceProblem on_device(c.problem());
  const AttentionProblem& view = on_device.view();
  const auto plan_and_run = [&](DType o_dtype) {
    config.o_dtype = o_dtype;
    GpuWorkspace memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, c.paged_kv_indptr, c.paged_kv_last_page_len));
    GpuOutput out(spec.batch(), config);
    BatchDecodeWithPagedKVCache decode(config, memory.view());
    decode.plan(c.paged_kv_indptr, c.paged_kv_last_page_len);
    decode.run(view.q, view.kv, view.paged_kv_indices, out.view(), nullptr, view.sinks, {}, view.scales);
    Result result = out.result(nullptr);
    CHECK(memory.guards_intact());
    return result;
  };
  const Result exact = plan_and_run(DType::f32);
  const Comparison comparison = compare(c, exact.floats(), exact.lse_log2, oracle);
  CHECK_MESSAGE(comparison.verdict() != Verdict::fail, comparison.message());
  const Result narrow = plan_and_run(spec.dtype);
  CHECK(narrow.o == rounded(exact.floats(), spec.dtype));
  CHECK(narrow.lse_log2 == exact.lse_log2);
}

// Many plans on one object and stream, none waited for; the stream starts busy, so that copies pile up behind it.
std::vector<Result> plans_in_a_row(const Case& c, std::uint64_t seed, int plans, cudaStream_t stream, bool wait_each) {
  const AttentionConfig config = config_of(c.spec, Device::gpu, c.spec.dtype);
  const AttentionLimits limits{12, 1200};
  const gpu::DeviceProblem on_device(c.problem());
  const gpu::DeviceBuffer busy(std::size_t{256} << 20), sink(4);
  GpuWorkspace memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, limits));
  BatchDecodeWithPagedKVCache decode(config, memory.view());
  std::vector<Step> steps;
  Random random(seed);
  for (int i = 0; i < plans; ++i) steps.emplace_back(c, random_batch(c, random, limits.max_batch, limits.max_pages), config);
  for (int i = 0; i < 20; ++i) gpu::read_all(busy.data(), busy.size(), sink.as<float>(), stream);
  for (Step& step : steps) {
    decode.plan(step.batch.paged_kv_indptr, step.batch.paged_kv_last_page_len, stream);
    decode.run(step.q_tensor(), on_device.view().kv, step.page_ids(), step.output.view(), stream);
    if (wait_each) gpu::check(cudaStreamSynchronize(stream));
  }
  std::vector<Result> results;
  for (Step& step : steps) results.push_back(step.output.result(stream));
  CHECK(memory.guards_intact());
  return results;
}

}  // namespace

TEST_CASE("plan and run equal the oracle on the decode cases of the case table") {
  for (const CaseSpec& spec : ladder::case_table()) {
    for (const DType dtype : {DType::f16, DType::bf16}) {
      const CaseSpec decode = for_decode_class(as_decode(spec, dtype));
      for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::fixed}) {
        check_decode(decode, policy);
        check_decode(on_fp8(without_rope(decode), spec.seed), policy);
      }
    }
  }
}

TEST_CASE("plan and run equal the oracle on random decode cases") {
  const int cases = options().cases_or(200);
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const CaseSpec spec = for_decode_class(random_decode(options().seed + static_cast<std::uint64_t>(i)));
    check_decode(i % 8 < 2 ? on_fp8(without_rope(spec), static_cast<std::uint64_t>(i / 8)) : spec, policies[i % 4]);
  }
}

TEST_CASE("planning again never touches a plan that is still in flight") {
  const Case c = pool_of_requests(3);
  const GpuStream stream;
  const std::vector<Result> waited = plans_in_a_row(c, 5, 60, stream, true);
  for (int round = 0; round < 3; ++round) CHECK((plans_in_a_row(c, 5, 60, stream, false) == waited));
}

TEST_CASE("two objects on two streams in two threads") {
  const Case c = pool_of_requests(4);
  std::vector<Result> together[2];
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&, t] {
        const GpuStream stream;
        together[t] = plans_in_a_row(c, 20 + static_cast<std::uint64_t>(t), 30, stream, false);
      });
    }
  }
  const GpuStream stream;
  for (int t = 0; t < 2; ++t) {
    CHECK((together[t] == plans_in_a_row(c, 20 + static_cast<std::uint64_t>(t), 30, stream, true)));
  }
}

// Policy fixed: the plain class gives the same bits. Balanced: it may take clusters for a small batch, where the graph has
// one kernel for all within its limits; then another object for graphs is run without being captured.
TEST_CASE("a graph captured once replays fifty other plans, bit for bit") {
  const Case c = pool_of_requests(6);
  const GpuStream stream;
  const gpu::DeviceProblem on_device(c.problem());
  const PagedKvCache& kv = on_device.view().kv;
  AttentionConfig config = config_of(c.spec, Device::gpu, c.spec.dtype);
  for (const SplitPolicy policy : {SplitPolicy::balanced, SplitPolicy::fixed}) {
    config.execution.policy = policy;
    config.execution.chunk_size = 256;
    const AttentionLimits limits{10, 900};
    GpuWorkspace memory(CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(config, limits));
    GpuWorkspace eager_memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, limits));
    GpuWorkspace direct_memory(CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(config, limits));
    CUDAGraphBatchDecodeWithPagedKVCache decode(config, limits, memory.view()), direct(config, limits, direct_memory.view());
    BatchDecodeWithPagedKVCache eager(config, eager_memory.view());

    Random random(options().seed);
    MESSAGE("--seed ", options().seed);
    const Batch first = random_batch(c, random, limits.max_batch, limits.max_pages);
    decode.plan(first.paged_kv_indptr, first.paged_kv_indices, first.paged_kv_last_page_len, stream);
    Step captured(c, first, config, limits.max_batch);
    const GpuGraph graph(stream, [&] { decode.run(captured.q_tensor(), kv, captured.output.view(), stream); });

    for (int i = 0; i < 50; ++i) {
      const Batch batch = random_batch(c, random, limits.max_batch, limits.max_pages);
      const Step step(c, batch, config, limits.max_batch);
      gpu::check(cudaMemcpyAsync(captured.q.data(), step.q.data(), step.q.size(), cudaMemcpyDeviceToDevice, stream));
      captured.output.poison(stream);
      const bool on_gpu = i % 2 == 1;
      decode.plan(batch.paged_kv_indptr, on_gpu ? step.page_ids() : std::span<const std::int32_t>(batch.paged_kv_indices),
                  batch.paged_kv_last_page_len, stream, on_gpu ? Device::gpu : Device::cpu);
      graph.launch(stream);
      const Result replayed = captured.output.result(stream);

      Step alone(c, batch, config, batch.size());
      eager.plan(batch.paged_kv_indptr, batch.paged_kv_last_page_len, stream);
      eager.run(alone.q_tensor(), kv, alone.page_ids(), alone.output.view(), stream);
      Result once = alone.output.result(stream);
      if (policy == SplitPolicy::balanced) {
        Step padded(c, batch, config, limits.max_batch);
        padded.output.poison(stream);
        direct.plan(batch.paged_kv_indptr, batch.paged_kv_indices, batch.paged_kv_last_page_len, stream);
        direct.run(padded.q_tensor(), kv, padded.output.view(), stream);
        const Result all = padded.output.result(stream);
        std::copy_n(all.o.begin(), once.o.size(), once.o.begin());
        std::copy_n(all.lse_log2.begin(), once.lse_log2.size(), once.lse_log2.begin());
      }
      CHECK(std::equal(once.o.begin(), once.o.end(), replayed.o.begin()));
      CHECK(std::equal(once.lse_log2.begin(), once.lse_log2.end(), replayed.lse_log2.begin()));
      const auto is_poison = [](std::byte b) { return b == std::byte{0xff}; };
      CHECK(std::all_of(replayed.o.begin() + static_cast<std::ptrdiff_t>(once.o.size()), replayed.o.end(), is_poison));
    }
    CHECK(memory.guards_intact());
  }
}

TEST_CASE("replays that nobody waits for, each with its own plan") {
  const Case c = pool_of_requests(8);
  const GpuStream stream;
  const gpu::DeviceProblem on_device(c.problem());
  const PagedKvCache& kv = on_device.view().kv;
  const AttentionConfig config = config_of(c.spec, Device::gpu, c.spec.dtype);
  const AttentionLimits limits{10, 900};
  std::vector<Result> results[2];
  for (const bool wait_each : {true, false}) {
    GpuWorkspace memory(CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(config, limits));
    CUDAGraphBatchDecodeWithPagedKVCache decode(config, limits, memory.view());
    Random random(9);
    std::vector<Step> steps;
    for (int i = 0; i < 30; ++i) {
      steps.emplace_back(c, random_batch(c, random, limits.max_batch, limits.max_pages), config, limits.max_batch);
    }
    decode.plan(std::vector<std::int32_t>{0}, {}, {}, stream);
    Step captured(c, Batch{}, config, limits.max_batch);
    const GpuGraph graph(stream, [&] { decode.run(captured.q_tensor(), kv, captured.output.view(), stream); });
    for (Step& step : steps) {
      gpu::check(cudaMemcpyAsync(captured.q.data(), step.q.data(), step.q.size(), cudaMemcpyDeviceToDevice, stream));
      captured.output.poison(stream);
      decode.plan(step.batch.paged_kv_indptr, step.batch.paged_kv_indices, step.batch.paged_kv_last_page_len, stream);
      graph.launch(stream);
      step.output.copy_from(captured.output, stream);
      if (wait_each) gpu::check(cudaStreamSynchronize(stream));
    }
    for (Step& step : steps) results[wait_each].push_back(step.output.result(stream));
  }
  CHECK((results[0] == results[1]));
}
