// RMSNorm with one read: a row stays in the registers of its lanes from the load to the store. For rmsnorm and, with `add`,
// fused_add_rmsnorm; must equal reference/norm.cpp up to the order of one sum.
// grid   a block for every rows_in_block() consecutive rows      block  groups of lanes, each group a row at a time
// shared memory  two sums a warp (wide)
//  - 16 bytes a load. Blocks are short and many: while one sums, others load. Only rmsnorm's blocks of long rows go on to a
//    few more rows, and ask for the next one before they sum this one.
//  - Rows of a block lie one after the other: what the SMs touch at one time is near together in memory.
//  - The weight is loaded once, into registers, before anything that must wait.
//  - A group is part of a warp, which adds by shuffles, or (wide) a block, with one barrier a row.
// Tensors: x, y, residual [rows, d], weight [d]; lane l of a group holds pieces l, l + lanes, ... of eight elements.
// docs/measurements/h200-ops.md has what was tried.
#pragma once

#include <cstdint>

#include "gpu/element.cuh"
#include "gpu/norm/norm_params.hpp"
#include "gpu/ptx/griddepcontrol.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

// Element offset of row r.
__device__ inline std::int64_t offset(const NormRows& rows, std::uint32_t r, std::uint32_t num_heads) {
  if (num_heads == 1) return r * rows.stride;
  const std::uint32_t token = r / num_heads;
  return token * rows.stride + (r - token * num_heads) * rows.head;
}

// The sum over the block's warps of what each warp has summed. sums [2][32]: step k uses half k % 2, so that a warp that is
// already in the next step does not overwrite what another still reads; the barrier of that next step closes the rest.
__device__ inline float block_sum(float value, float (&sums)[2][32], int step) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(all_lanes, value, distance);
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float* half = sums[step % 2];
  if (lane == 0) half[warp] = value;
  __syncthreads();  // every warp's sum is written
  value = lane < blockDim.x / 32 ? half[lane] : 0;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(all_lanes, value, distance);
  return value;
}

// What a lane holds of the rows of one step, as it was loaded.
template <bool add, int rows_at_once, int chunks>
struct RowPieces {
  uint4 x[rows_at_once][chunks], residual[add ? rows_at_once : 1][add ? chunks : 1];
};

// From here on the compiler can't know that a piece is what it was, and converts it to float again where it needs it. Else
// it would carry the floats along, of x from the sum to the store and of the weight through the whole loop: twice the
// registers.
template <int n>
__device__ void keep_packed(uint4 (&pieces)[n]) {
#pragma unroll
  for (uint4& p : pieces) asm volatile("" : "+r"(p.x), "+r"(p.y), "+r"(p.z), "+r"(p.w));
}

template <class Element, bool add, int chunks, bool wide>
struct NormLanes {
  static constexpr int rows_at_once = norm_rows_at_once(wide, add, chunks);
  using Pieces = RowPieces<add, rows_at_once, chunks>;

  const NormParams& p;
  int group, groups;  // of this block; row r of a step is `groups` rows behind row r - 1
  int lane, lanes;
  std::uint32_t end;  // of this block's rows

  __device__ bool has(int c) const { return (lane + c * lanes) * 8 < p.d; }

  // Neither this nor the store names a cache policy: evict-first loads took 2 % longer at 65536 x 4096 (268 us against 262).
  __device__ uint4 load(const NormRows& rows, std::uint32_t row, int c) const {
    if (row >= end || !has(c)) return {};
    const auto* from = static_cast<const Element*>(rows.data) + offset(rows, row, p.num_heads);
    return reinterpret_cast<const uint4*>(from)[lane + c * lanes];
  }
  __device__ void store(const NormRows& rows, std::uint32_t row, int c, const Float8& values) const {
    if (row >= end || !has(c)) return;
    auto* to = static_cast<Element*>(rows.data) + offset(rows, row, p.num_heads);
    reinterpret_cast<uint4*>(to)[lane + c * lanes] = pack<Element>(values);
  }

  __device__ void load(Pieces& pieces, std::uint32_t row) const {
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) {
#pragma unroll
      for (int c = 0; c < chunks; ++c) {
        pieces.x[r][c] = load(p.input, row + r * groups, c);
        if constexpr (add) pieces.residual[r][c] = load(p.residual, row + r * groups, c);
      }
    }
  }

  // What is normalised, in float: of a fused add the sum that is not rounded.
  __device__ Float8 values(const Pieces& pieces, int r, int c) const {
    Float8 x = to_floats<Element>(pieces.x[r][c]);
    if constexpr (add) {
      const Float8 residual = to_floats<Element>(pieces.residual[r][c]);
#pragma unroll
      for (int i = 0; i < 8; ++i) x.at[i] += residual.at[i];
    }
    return x;
  }

  __device__ void sum_over_group(float (&squares)[rows_at_once], float (&sums)[2][32], int round) const {
    if constexpr (wide) {
      squares[0] = block_sum(squares[0], sums, round);
    } else {
      for (int distance = lanes / 2; distance > 0; distance /= 2) {
#pragma unroll
        for (float& s : squares) s += __shfl_xor_sync(all_lanes, s, distance);
      }
    }
  }

  // From the pieces of rows row, row + groups, ... to what is stored.
  __device__ void norm(Pieces& pieces, uint4 (&weight)[chunks], std::uint32_t row, float (&sums)[2][32], int round) const {
    float squares[rows_at_once] = {};
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) {
#pragma unroll
      for (int c = 0; c < chunks; ++c) {
        const Float8 x = values(pieces, r, c);
        if constexpr (add) store(p.residual, row + r * groups, c, x);
#pragma unroll
        for (float value : x.at) squares[r] += value * value;
      }
    }
    sum_over_group(squares, sums, round);
    keep_packed(weight);
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) {
      keep_packed(pieces.x[r]);
      if constexpr (add) keep_packed(pieces.residual[r]);
      const float scale = rsqrtf(squares[r] * p.inverse_d + p.eps);
#pragma unroll
      for (int c = 0; c < chunks; ++c) {
        const Float8 w = to_floats<Element>(weight[c]);
        Float8 y = values(pieces, r, c);
#pragma unroll
        for (int i = 0; i < 8; ++i) y.at[i] = y.at[i] * scale * w.at[i];
        store(p.out, row + r * groups, c, y);
      }
    }
  }
};

template <class Element, bool add, int chunks, bool wide>
__global__ void __launch_bounds__(most_norm_threads(wide), least_norm_blocks(wide, chunks))
norm_kernel(const __grid_constant__ NormParams p, int lanes, std::uint32_t rows_in_block) {
  __shared__ float sums[2][32];
  using Lanes = NormLanes<Element, add, chunks, wide>;
  const int group = wide ? 0 : threadIdx.x / lanes, groups = wide ? 1 : blockDim.x / lanes;
  const std::uint32_t begin = blockIdx.x * rows_in_block;
  const Lanes at{p, group, groups, static_cast<int>(threadIdx.x) - group * lanes, lanes, min(begin + rows_in_block, p.rows)};
  uint4 weight[chunks];
#pragma unroll
  for (int c = 0; c < chunks; ++c) {
    weight[c] = at.has(c) ? static_cast<const uint4*>(p.weight)[at.lane + c * lanes] : uint4{};
  }
  griddepcontrol_wait();  // the weight alone is nobody's output; x, residual and out may still be in use in front of us
  griddepcontrol_launch_dependents();
  typename Lanes::Pieces pieces;
  at.load(pieces, begin + group);
  if constexpr (!norm_goes_on(wide, add, chunks)) {
    at.norm(pieces, weight, begin + group, sums, 0);
  } else {
    int round = 0;
    for (std::uint32_t row = begin; row < at.end; ++row, ++round) {  // the whole block's row: all meet the barrier
      typename Lanes::Pieces next;
      at.load(next, row + 1);
      at.norm(pieces, weight, row, sums, round);
      pieces = next;
    }
  }
}

}  // namespace flashladder::gpu
