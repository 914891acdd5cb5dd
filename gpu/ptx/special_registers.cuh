// Registers that say where and when. PTX ISA, "Special Registers: %tid, %globaltimer".
#pragma once

#include <cstdint>

namespace flashladder::gpu {

__device__ inline int read_tid_x() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

// Nanoseconds, the same on all SMs.
__device__ inline std::uint64_t read_globaltimer() {
  std::uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}

}  // namespace flashladder::gpu
