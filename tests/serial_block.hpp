// The GPU's planner on the host: a block of threads that is a loop. Phases go through the threads in turns forwards, backwards
// and in strides, so that a thread that reads what another one writes in the same phase finds it missing now and then.
#pragma once

#include <barrier>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "gpu/plan/plan_memory.hpp"
#include "tests/device_plans.hpp"

namespace flashladder::test {

struct SerialBlock {
  static constexpr std::int32_t threads = 512;
  int phases = 0;

  template <class Phase>
  void each(Phase&& phase) {
    constexpr std::int32_t strides[] = {1, threads - 1, 37, 311};  // odd: each thread comes once
    const std::int32_t stride = strides[phases++ % 4];
    for (std::int32_t i = 0; i < threads; ++i) phase(i * stride % threads);
  }
};

// The same by threads that meet at a barrier, each of which runs all of the planner, as on the GPU: what one of them decides
// between two phases, all must decide.
struct ThreadBlock {
  static constexpr std::int32_t threads = 8;
  std::barrier<>& barrier;
  std::int32_t thread;

  template <class Phase>
  void each(Phase&& phase) {
    phase(thread);
    barrier.arrive_and_wait();
  }
};
template <class Plan>  // plan(block) by each
void plan_by_threads(Plan&& plan) {
  std::barrier<> barrier(ThreadBlock::threads);
  std::vector<std::jthread> threads;
  for (std::int32_t t = 0; t < ThreadBlock::threads; ++t) {
    threads.emplace_back([&, t] {
      ThreadBlock block{barrier, t};
      plan(block);
    });
  }
}

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
