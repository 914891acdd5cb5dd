// What ldmatrix does (mma.cuh), the other way round (sm_90): registers of a matrix fragment to rows in shared memory. PTX
// ISA, "Warp Level Matrix Multiply-Accumulate Instructions: stmatrix".
#pragma once

#include <cstdint>

namespace flashladder::gpu {

// Four 8 x 8 blocks of 16-bit elements. row: for lane l the address of row l % 8 of block l / 8, 16 bytes.
__device__ inline void stmatrix_x4(void* row, const std::uint32_t (&a)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                   static_cast<std::uint32_t>(__cvta_generic_to_shared(row))),
               "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
               : "memory");
}

}  // namespace flashladder::gpu
