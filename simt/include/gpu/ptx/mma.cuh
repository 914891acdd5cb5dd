// gpu/ptx/mma.cuh on a simulated GPU.
#pragma once

#include <cstdint>

#include "core/half.hpp"
#include "simt/matrix.hpp"
#include "simt/memory.hpp"

namespace flashladder::gpu {

template <class Element>
inline void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  simt::multiply_16x8x16<Element>(c, a, b);
}
template <class Element>
inline void mma_16x16x16(float (&left)[4], float (&right)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[4]) {
  mma_16x8x16<Element>(left, a, {b[0], b[1]});
  mma_16x8x16<Element>(right, a, {b[2], b[3]});
}

inline std::uint32_t shared_address(const void* shared) { return simt::shared_address(shared); }
inline void ldmatrix_x4(std::uint32_t (&a)[4], std::uint32_t row) { simt::load_matrices(a, row, false); }
inline void ldmatrix_x4(std::uint32_t (&a)[4], const void* row) { ldmatrix_x4(a, shared_address(row)); }
inline void ldmatrix_x4_trans(std::uint32_t (&a)[4], std::uint32_t row) { simt::load_matrices(a, row, true); }
inline void ldmatrix_x4_trans(std::uint32_t (&a)[4], const void* row) { ldmatrix_x4_trans(a, shared_address(row)); }
inline std::uint32_t movmatrix_trans(std::uint32_t block) { return simt::transposed_block(block); }

}  // namespace flashladder::gpu
