// The instructions of a warp that move 8 x 8 blocks of 16-bit elements, and multiply them. Which lane holds what:
// core/fragment_map.hpp. PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions".
#pragma once

#include <cstdint>

namespace flashladder::simt {

void load_matrices(std::uint32_t (&a)[4], std::uint32_t row, bool transposed);  // ldmatrix.x4
void store_matrices(std::uint32_t row, const std::uint32_t (&a)[4]);            // stmatrix.x4
std::uint32_t transposed_block(std::uint32_t block);                            // movmatrix

// mma.m16n8k16: c += a b. Element: Half or BFloat16.
template <class Element>
void multiply_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);

}  // namespace flashladder::simt
