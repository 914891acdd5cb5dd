// The GPU's planner makes the host's plan. Its code runs here on the host, a block being a loop over threads, so that no GPU
// is needed: every record equals what pack() makes of planner::make_plan(). tests/api_gpu_lengths.cpp runs the kernel.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "core/page_table.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/plan/run_plan.hpp"
#include "planner/planner.hpp"
#include "tests/device_plans.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace flashladder::test;

namespace {

template <std::int32_t threads_>
struct SerialBlock {
  static constexpr std::int32_t threads = threads_;
  template <class Phase>
  void each(Phase&& phase) {
    for (std::int32_t t = 0; t < threads; ++t) phase(t);
  }
};

template <std::int32_t threads>
std::string difference(const PlannedLengths& batch) {
  const PackedPlan host = host_plan(batch);
  PackedPlan device(host.shape);
  const gpu::DecodePlanParams params = device_params(batch, batch.host_table(), device);
  const gpu::DecodePlanMemory sizes = gpu::decode_plan_memory(params, threads, nullptr, nullptr);
  std::vector<std::byte> shared(sizes.shared_bytes, std::byte{0xff}), scratch(sizes.scratch_bytes, std::byte{0xff});
  SerialBlock<threads> block;
  gpu::run_plan(block, params, shared.data(), scratch.data());
  return difference(host, device);
}

}  // namespace

TEST_CASE("the plan that the GPU makes is the host's in every record, on random batches") {
  const int cases = options().cases > 0 ? options().cases : 3000;
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  std::size_t cut = 0, grouped = 0, balanced = 0, several_heads = 0;
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t seed = options().seed + static_cast<std::uint64_t>(i);
    CAPTURE(seed);
    const PlannedLengths batch = random_lengths(seed);
    CAPTURE(describe(batch));
    REQUIRE(difference<512>(batch) == "");
    const Plan plan = planner::make_plan(batch.inputs());
    cut += !plan.parts[0].merges.empty();
    grouped += std::ranges::any_of(plan.parts[0].merges, [](const Merge& m) { return m.num_partials > 32; });
    balanced += batch.policy == SplitPolicy::balanced;
    several_heads += batch.policy == SplitPolicy::balanced && plan.parts[0].copies < batch.num_kv_heads;
  }
  CHECK(cut > static_cast<std::size_t>(cases) / 5);  // else it shows nothing
  CHECK(grouped > static_cast<std::size_t>(cases) / 50);
  CHECK(balanced > static_cast<std::size_t>(cases) / 3);
  CHECK(several_heads > static_cast<std::size_t>(cases) / 50);
}
