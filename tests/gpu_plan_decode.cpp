// The GPU's planner makes the host's plan. Its code runs here on the host, so that no GPU is needed: every record equals what
// pack() makes of planner::make_plan(). tests/api_gpu_lengths.cpp runs the kernel, tests/plan_mutants.cpp broken copies.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "gpu/plan/run_plan.hpp"
#include "planner/planner.hpp"
#include "tests/options.hpp"
#include "tests/serial_block.hpp"

using namespace flashladder;
using namespace flashladder::test;

namespace {

std::string planned_difference(const PlannedLengths& batch) {
  return difference(batch, [](SerialBlock& block, const auto&... rest) { gpu::run_plan(block, rest...); });
}

}  // namespace

TEST_CASE("the plan that the GPU makes is the host's in every record, on random batches") {
  const int cases = options().cases_or(3000);
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  std::size_t cut = 0, grouped = 0, even = 0, several_heads = 0;
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t seed = options().seed + static_cast<std::uint64_t>(i);
    CAPTURE(seed);
    const PlannedLengths batch = random_lengths(seed);
    CAPTURE(describe(batch));
    REQUIRE(planned_difference(batch) == "");
    const Plan plan = planner::make_plan(batch.inputs());
    cut += !plan.parts[0].merges.empty();
    grouped += std::ranges::any_of(plan.parts[0].merges, [](const Merge& m) { return m.num_partials > 32; });
    even += batch.policy == SplitPolicy::even;
    several_heads += batch.policy == SplitPolicy::even && plan.parts[0].copies < batch.num_kv_heads;
  }
  CHECK(cut > static_cast<std::size_t>(cases) / 5);  // else it shows nothing
  CHECK(grouped > static_cast<std::size_t>(cases) / 50);
  CHECK(even > static_cast<std::size_t>(cases) / 3);
  CHECK(several_heads > static_cast<std::size_t>(cases) / 50);
}

TEST_CASE("the plan that the GPU makes: the largest batches, the longest request, nothing but empty ones") {
  PlannedLengths batch;
  batch.most_keys = std::numeric_limits<std::int32_t>::max();
  batch.max_pages = 1;
  for (const SplitPolicy policy : {SplitPolicy::even, SplitPolicy::fixed, SplitPolicy::none}) {
    batch.policy = policy;
    batch.chunk_size = 4096;
    for (const std::int32_t length : {0, 1, 300, 5000}) {
      batch.kv_lens.assign(9000, length);
      CHECK(planned_difference(batch) == "");
    }
    batch.chunk_size = 1 << 20;
    for (const std::size_t requests : {1, 3, 64}) {
      batch.kv_lens.assign(requests, batch.most_keys);
      CHECK(planned_difference(batch) == "");
      batch.kv_lens.back() = 0;
      CHECK(planned_difference(batch) == "");
    }
  }
}

// Lanes that are closer than chunk_align begin at the same cuts. 2032 keys and 80 on 33 lanes: exactly one every 64 keys.
TEST_CASE("the plan that the GPU makes: lanes about chunk_align apart") {
  PlannedLengths batch;
  batch.most_keys = 1 << 20, batch.max_pages = 1 << 10;
  int empty_between = 0;
  for (const std::int32_t heads : {1, 8, 48}) {
    batch.num_kv_heads = heads;
    for (std::int32_t length = 1; length < 2400; length += heads == 8 ? 1 : 13) {
      batch.kv_lens.assign(heads == 1 ? 8 : 1, length);
      CAPTURE(heads);
      CAPTURE(length);
      REQUIRE(planned_difference(batch) == "");
      const PlanPart part = planner::make_plan(batch.inputs()).parts[0];
      for (std::size_t cta = 1; cta + 1 < part.queue_indptr.size(); ++cta) {
        const std::int32_t begin = part.queue_indptr[cta], end = part.queue_indptr[cta + 1];
        empty_between += begin == end && begin > 0 && end < std::ssize(part.queue);
      }
    }
  }
  CHECK(empty_between > 1000);  // else it shows nothing
}

TEST_CASE("the plan that the GPU makes takes a length beyond the most as the most, and a negative one as 0") {
  PlannedLengths batch;
  batch.kv_lens = {100, 5000, 4096, 0};
  batch.max_pages = 256;
  batch.most_keys = 4096;
  PlannedLengths cut = batch;
  cut.kv_lens = {100, 4096, 4096, 0};
  const PackedPlan host = host_plan(cut);
  PackedPlan device(host.shape);
  batch.kv_lens[3] = -5;
  const gpu::DecodePlanParams params = device_params(batch, batch.host_table(), device);
  const gpu::DecodePlanMemory sizes = gpu::decode_plan_memory(params, SerialBlock::threads, nullptr, nullptr);
  std::vector<std::byte> shared(sizes.shared_bytes), scratch(sizes.scratch_bytes);
  SerialBlock block;
  gpu::run_plan(block, params, shared.data(), scratch.data());
  CHECK(difference(host, device) == "");
}

TEST_CASE("the memory of a decode's plan: what a block may have of shared memory, and room for the end of every list") {
  constexpr std::int32_t ctas = 132;
  for (const bool even : {false, true}) {
    for (const std::int32_t requests : {1, 1000, 2000, 3500, 6000, 9000}) {
      PlannedLengths batch;
      batch.kv_lens.assign(static_cast<std::size_t>(requests), 5);
      gpu::DecodePlanParams params{};
      params.table = batch.host_table(), params.even = even, params.num_ctas = ctas, params.most_work = 10;
      alignas(16) std::byte shared{}, scratch{};
      const gpu::DecodePlanMemory m = gpu::decode_plan_memory(params, gpu::plan_threads, &shared, &scratch);
      CHECK(m.shared_bytes <= gpu::most_shared_bytes);
      if (even) continue;
      const auto room = reinterpret_cast<std::byte*>(m.loads) - reinterpret_cast<std::byte*>(m.queues);
      CHECK(room >= static_cast<std::ptrdiff_t>(2 * (ctas + 1) * sizeof(std::int32_t)));
    }
  }
}
