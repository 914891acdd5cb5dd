// Tensor cores of sm_80 and newer: mma.m16n8k16 on 16-bit elements with an f32 accumulator, and what brings its operands
// into place. Which lane holds which element: core/fragment_map.hpp.
// PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions": mma, ldmatrix, movmatrix.
#pragma once

#include <cstdint>

#include "core/half.hpp"

namespace flashladder::gpu {

// c += a b. a: 16 x 16, b: 16 x 8, c: 16 x 8.
template <class Element>
__device__ inline void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);
template <>
__device__ inline void mma_16x8x16<Half>(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ inline void mma_16x8x16<BFloat16>(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same for two neighbours of c: b is 16 x 16, in the order in which one ldmatrix_x4 brings it.
template <class Element>
__device__ inline void mma_16x16x16(float (&left)[4], float (&right)[4], const std::uint32_t (&a)[4],
                                    const std::uint32_t (&b)[4]) {
  mma_16x8x16<Element>(left, a, {b[0], b[1]});
  mma_16x8x16<Element>(right, a, {b[2], b[3]});
}

// Four 8 x 8 blocks from shared memory. row: for lane l the address of row l % 8 of block l / 8, 16 bytes; a pointer, or
// what shared_address() made of it, where a kernel reckons with addresses itself.
__device__ inline std::uint32_t shared_address(const void* shared) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
}
__device__ inline void ldmatrix_x4(std::uint32_t (&a)[4], std::uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(row)
               : "memory");
}
__device__ inline void ldmatrix_x4(std::uint32_t (&a)[4], const void* row) { ldmatrix_x4(a, shared_address(row)); }
// ... each of them transposed on the way.
__device__ inline void ldmatrix_x4_trans(std::uint32_t (&a)[4], std::uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(row)
               : "memory");
}
__device__ inline void ldmatrix_x4_trans(std::uint32_t (&a)[4], const void* row) {
  ldmatrix_x4_trans(a, shared_address(row));
}

// An 8 x 8 block in registers, transposed.
__device__ inline std::uint32_t movmatrix_trans(std::uint32_t block) {
  std::uint32_t transposed;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(transposed) : "r"(block));
  return transposed;
}

}  // namespace flashladder::gpu
