// Who holds what: which element of a matrix tile lies in which register of which lane, for the tensor-core instructions.
//
// An element is named by (lane, i): lane of the warp (or thread of the warpgroup), i-th element that it holds. Two 16-bit
// elements share a 32-bit register: element i of A or B lies in register i / 2, low half first; f32 element i in register i.
// All the maps are made of one square. In an 8 x 8 block of a 16-bit operand, or of an f32 result, lane l holds two
// neighbours of row l / 4:
//        columns  0 1   2 3   4 5   6 7
//        row 0    lane0 lane1 lane2 lane3
//        row 1    lane4 lane5 ...                                    (B is held the same way, transposed)
// The blocks of a larger tile follow each other in the order in which i counts: down first, then to the right.
//
// Because A and C are built from the same blocks, two C tiles side by side (16 x 8 each), rounded to 16 bits, *are* one A
// operand, without any exchange between lanes: A element i is element i % 4 of C tile i / 4. So the probabilities of Q K^T
// become the left operand of P V where they are. The same holds for wgmma: elements 8 t .. 8 t + 7 of its accumulator are
// the A fragment for columns 16 t .. 16 t + 15.
// (PTX ISA: "Matrix Fragments for mma.m16n8k16 with floating point type"; "Register Fragments and Shared Memory Matrix
// Layouts" of wgmma.mma_async.m64nNk16.)
#pragma once

#include <cstdint>

#include "core/host_device.hpp"

namespace flashladder {

struct FragmentElement {
  std::int32_t row, col;
  friend constexpr bool operator==(const FragmentElement&, const FragmentElement&) = default;
};

// mma.m16n8k16, one warp: lane 0 .. 31.
inline constexpr std::int32_t mma_a_elements = 8, mma_b_elements = 4, mma_c_elements = 4;  // per lane

// A is 16 x 16 (m x k), 16 bit: i = 0 .. 7 walks blocks top-left, bottom-left, top-right, bottom-right.
FL_HD constexpr FragmentElement mma_a_element(std::int32_t lane, std::int32_t i) {
  return {lane / 4 + i / 2 % 2 * 8, lane % 4 * 2 + i % 2 + i / 4 * 8};
}

// B is 16 x 8 (k x n), 16 bit: i = 0 .. 3, top block then bottom block, neighbours along k.
FL_HD constexpr FragmentElement mma_b_element(std::int32_t lane, std::int32_t i) {
  return {lane % 4 * 2 + i % 2 + i / 2 * 8, lane / 4};
}

// C and D are 16 x 8 (m x n), f32: i = 0 .. 3, top block then bottom block.
FL_HD constexpr FragmentElement mma_c_element(std::int32_t lane, std::int32_t i) {
  return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2};
}

// ldmatrix.x4 loads four 8 x 8 blocks; lane l names row l % 8 of block l / 8, 16 bytes in shared memory. Which row (of the
// tile of 16 rows there, and which of its two 16-byte chunks), so that the lanes get an operand A. The tile lies there
// as A is: row by row ...
struct NamedRow {
  std::int32_t row, chunk;
};
FL_HD constexpr NamedRow ldmatrix_a_row(std::int32_t lane) { return {lane % 16, lane / 16}; }

// ... or transposed, a row for each column of A, with ldmatrix.trans.
FL_HD constexpr NamedRow ldmatrix_trans_a_row(std::int32_t lane) { return {lane % 8 + lane / 16 * 8, lane / 8 % 2}; }

// wgmma.m64nNk16, four warps: thread 0 .. 127, warp w owns rows 16 w .. 16 w + 15.
// D is 64 x N, f32, N a multiple of 8: i = 0 .. N / 2 - 1, each four of them as in an mma C tile, tiles from left to right.
FL_HD constexpr FragmentElement wgmma_d_element(std::int32_t thread, std::int32_t i) {
  const FragmentElement in_tile = mma_c_element(thread % 32, i % 4);
  return {in_tile.row + thread / 32 * 16, in_tile.col + i / 4 * 8};
}

// A from registers is 64 x 16, 16 bit: i = 0 .. 7, each warp as in mma.
FL_HD constexpr FragmentElement wgmma_a_element(std::int32_t thread, std::int32_t i) {
  const FragmentElement in_tile = mma_a_element(thread % 32, i);
  return {in_tile.row + thread / 32 * 16, in_tile.col};
}

}  // namespace flashladder
