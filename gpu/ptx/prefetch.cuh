// Memory that will be read is asked for ahead. PTX ISA, "Data Movement and Conversion Instructions:
// cp.async.bulk.prefetch.tensor" and "cp.async.bulk.prefetch" (sm_90 and newer; nothing before).
#pragma once

#include <cstdint>

namespace flashladder::gpu {

// Into the L2 cache, which holds what any SM writes: what is written meanwhile is not missed. from, bytes: multiples of 16.
__device__ inline void prefetch_l2(const void* from, std::uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(from)), "r"(bytes) : "memory");
#endif
}

}  // namespace flashladder::gpu
