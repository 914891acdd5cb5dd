// The Block of the planners' kernels (block_sums.hpp): a CTA and its barrier.
#pragma once

#include <cstdint>

#include "gpu/plan/plan_memory.hpp"

namespace flashladder::gpu {

struct CtaBlock {
  static constexpr std::int32_t threads = plan_threads;

  template <class Phase>
  __device__ void each(Phase&& phase) {
    phase(static_cast<std::int32_t>(threadIdx.x));
    __syncthreads();  // the next phase reads what this one wrote, in shared memory and in scratch
  }
};

}  // namespace flashladder::gpu
