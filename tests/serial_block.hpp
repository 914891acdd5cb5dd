// The GPU's planner on the host: a block of threads that is a loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "gpu/plan/plan_memory.hpp"
#include "tests/device_plans.hpp"

namespace flashladder::test {

struct SerialBlock {
  static constexpr std::int32_t threads = 512;
  template <class Phase>
  void each(Phase&& phase) {
    for (std::int32_t t = 0; t < threads; ++t) phase(t);
  }
};

// How the plan that run(block, params, shared, scratch) makes of a batch differs from the host's: "" or the first record.
template <class Run>
std::string difference(const PlannedLengths& batch, Run&& run) {
  const PackedPlan host = host_plan(batch);
  PackedPlan device(host.shape);
  const gpu::DecodePlanParams params = device_params(batch, batch.host_table(), device);
  const gpu::DecodePlanMemory sizes = gpu::decode_plan_memory(params, SerialBlock::threads, nullptr, nullptr);
  std::vector<std::byte> shared(sizes.shared_bytes, std::byte{0xff}), scratch(sizes.scratch_bytes, std::byte{0xff});
  SerialBlock block;
  run(block, params, shared.data(), scratch.data());
  return difference(host, device);
}

}  // namespace flashladder::test
