// What every warp-wide instruction names, and which thread this is.
#pragma once

namespace flashladder::gpu {

inline constexpr unsigned all_lanes = 0xffffffffu;

// threadIdx.x, read anew: what is derived from it is not kept in registers through all that comes before.
__device__ inline int thread_again() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

}  // namespace flashladder::gpu
