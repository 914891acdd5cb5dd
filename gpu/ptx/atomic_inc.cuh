// A counter in global memory that hands on what was written before. PTX ISA, "Parallel Synchronization and Communication
// Instructions: atom", and "Memory Consistency Model".
#pragma once

#include <cstdint>

namespace flashladder::gpu {

// *counter, and one more from then on; 0 after `last`. Releases what this thread has written, and what a barrier before let it
// see; acquires what others released here.
__device__ inline std::uint32_t atomic_inc_acq_rel(std::uint32_t* counter, std::int32_t last) {
  std::uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;" : "=r"(before) : "l"(counter), "r"(last) : "memory");
  return before;
}

}  // namespace flashladder::gpu
