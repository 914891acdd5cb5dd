// RMSNorm that reads a row once: the row stays in the registers of its lanes from the load to the store. For rmsnorm and,
// with `add`, for fused_add_rmsnorm, each to 16 bits or (an OutQuantiser) to fp8. Must equal reference/norm.cpp up to the
// order of one sum.
// grid   rows / rows_in_block blocks      block  groups of lanes, each with a row (short rows: with two)
// shared memory  one sum for each warp (wide)
//  - A group of lanes is a part of a warp and adds by shuffles, or (wide) it is a block and adds with one barrier.
//  - A lane starts all its loads, two to eight of 16 bytes, before it waits for the first. A block ends after its rows, so
//    that there are many short ones: while one sums, others load, and the SMs touch neighbouring memory at any one time.
//  - Registers decide how many blocks an SM holds. So a lane keeps its pieces as they were loaded, two elements a register,
//    and where it has many pieces it loads the weight, which is in the caches, only when the sum is known.
// Tensors: x, y, residual [rows, d], weight [d]; lane l of a group holds pieces l, l + lanes, ... of eight elements.
// What was tried is in docs/measurements/h200-ops.md.
#pragma once

#include <cstdint>

#include "gpu/element.cuh"
#include "gpu/norm/norm_params.hpp"
#include "gpu/norm/norm_scale.cuh"
#include "gpu/ptx/griddepcontrol.cuh"
#include "gpu/quantise.cuh"
#include "gpu/warp.cuh"
#include "gpu/warp_reduce.cuh"

namespace flashladder::gpu {

// Element offset of row r.
__device__ inline std::int64_t offset(const NormRows& rows, std::uint32_t r, std::uint32_t num_heads) {
  if (num_heads == 1) return r * rows.stride;
  const std::uint32_t token = r / num_heads;
  return token * rows.stride + (r - token * num_heads) * rows.head;
}

// The sum of each warp, and zeros behind them up to a multiple of four, because they are read as float4.
struct alignas(16) WarpSums {
  float of[32 + 4];
};

// The sum over the block, the same bits in every thread. When a warp returns, others may still read `sums`.
__device__ inline float block_sum(float value, WarpSums& sums) {
  value = warp_sum(value);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  if (lane < (warp == warps - 1 ? 4 : 1)) sums.of[warp + lane] = lane == 0 ? value : 0;
  __syncthreads();  // every warp's sum is written
  float total = 0;
#pragma unroll 1  // most blocks have four or eight warps
  for (int i = 0; i < warps; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(sums.of + i);
    total += (four.x + four.y) + (four.z + four.w);
  }
  return total;
}

// The largest of values >= 0 over the block, in every thread. `sums` may still be read from before, and is free afterwards.
__device__ inline float block_largest(float value, WarpSums& sums) {
  value = warp_max(value);
  __syncthreads();  // every warp has read what was there
  if (threadIdx.x % 32 == 0) sums.of[threadIdx.x / 32] = value;
  __syncthreads();  // every warp's largest is written
#pragma unroll 1
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) value = fmaxf(value, sums.of[warp]);
  __syncthreads();  // every warp has read all of them
  return value;
}

// What a lane holds of its rows, as it was loaded.
template <bool add, int rows_at_once, int chunks>
struct RowPieces {
  uint4 x[rows_at_once][chunks], residual[add ? rows_at_once : 1][add ? chunks : 1];
};

// Makes the compiler convert the pieces to float again wherever they are used after this. It cannot know that the statement
// leaves them as they are. Without it the compiler would keep the floats of the sum until the store, in twice the registers.
template <int n>
__device__ void keep_packed(uint4 (&pieces)[n]) {
#pragma unroll
  for (uint4& p : pieces) asm volatile("" : "+r"(p.x), "+r"(p.y), "+r"(p.z), "+r"(p.w));
}

template <class Element, bool add, int chunks, bool wide, class Out>
struct NormLanes {
  static constexpr int rows_at_once = norm_rows_at_once(wide, add, chunks);
  using Pieces = RowPieces<add, rows_at_once, chunks>;

  const NormParams& p;
  int groups;         // of this block; row r of a lane comes `groups` rows after its row r - 1
  int lane, lanes;    // in the group
  std::uint32_t row;  // the lane's first row
  Element *input_row = nullptr, *residual_row = nullptr;  // where the row begins, if it is found once
  float out_scale = 1;                                    // of what is quantised
  bool e5m2 = false;

  // A fused add of few rows, which alone is wide with two pieces a thread (norm_shape), finds its row before it loads: each
  // search between two loads would let the second go out later. Else the row is found for each piece. With many rows other
  // blocks load meanwhile: found once it gained 1 % at best, and lost in other lengths (docs/measurements/notes.md).
  static constexpr bool found_once = add && wide && chunks == 2;
  __device__ Element* find(const NormRows& rows, int r) const {
    return static_cast<Element*>(rows.data) + offset(rows, row + r * groups, p.num_heads);
  }
  __device__ Element* row_of(const NormRows& rows, int r) const {
    if constexpr (found_once) return &rows == &p.residual ? residual_row : input_row;  // out is input, or fp8
    return find(rows, r);
  }

  __device__ bool has(int c) const { return (lane + c * lanes) * 8 < p.d; }
  __device__ bool has(int r, int c) const { return (wide || row + r * groups < p.rows) && has(c); }

  // Loads and stores name no cache policy: evict-first loads were slower (docs/measurements/h200-ops.md).
  __device__ uint4 load(const NormRows& rows, int r, int c) const {
    if (!has(r, c)) return {};
    const Element* from = row_of(rows, r);
    return reinterpret_cast<const uint4*>(from)[lane + c * lanes];
  }
  __device__ void store(const NormRows& rows, int r, int c, const Float8& values) const {
    if (!has(r, c)) return;
    Element* to = row_of(rows, r);
    reinterpret_cast<uint4*>(to)[lane + c * lanes] = pack<Element>(values);
  }
  __device__ void store_out(int r, int c, const Float8& values) const {
    if constexpr (!Out::quantises) {
      store(p.out, r, c, values);
    } else if (has(r, c)) {
      std::uint8_t* to = static_cast<std::uint8_t*>(p.out.data) + offset(p.out, row + r * groups, p.num_heads);
      reinterpret_cast<uint2*>(to)[lane + c * lanes] = quantised(values.at, out_scale, e5m2);
    }
  }

  __device__ void load(Pieces& pieces) const {
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) {
#pragma unroll
      for (int c = 0; c < chunks; ++c) {
        pieces.x[r][c] = load(p.input, r, c);
        if constexpr (add) pieces.residual[r][c] = load(p.residual, r, c);
      }
    }
  }
  __device__ void load_weight(uint4 (&weight)[chunks]) const {
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      weight[c] = has(c) ? static_cast<const uint4*>(p.weight)[lane + c * lanes] : uint4{};
    }
  }

  __device__ void keep_packed(Pieces& pieces, int r) const {
    gpu::keep_packed(pieces.x[r]);
    if constexpr (add) gpu::keep_packed(pieces.residual[r]);
  }

  // What is normalised, in float. Of a fused add it is the sum that is not rounded.
  __device__ Float8 values(const Pieces& pieces, int r, int c) const { return values(pieces.x[r][c], pieces, r, c); }
  // The same, with x from memory. The statement keeps the compiler from taking what was loaded before.
  __device__ Float8 values_again(const Pieces& pieces, int r, int c) const {
    asm volatile("" ::: "memory");
    return values(load(p.input, r, c), pieces, r, c);
  }
  __device__ Float8 values(uint4 packed_x, const Pieces& pieces, int r, int c) const {
    Float8 x = to_floats<Element>(packed_x);
    if constexpr (add) {
      const Float8 residual = to_floats<Element>(pieces.residual[r][c]);
#pragma unroll
      for (int i = 0; i < 8; ++i) x.at[i] += residual.at[i];
    }
    return x;
  }

  // The sum of squares of this lane's pieces. The residual is stored here, so that the store is in flight while the block
  // sums.
  __device__ void sum_over_lane(const Pieces& pieces, float (&squares)[rows_at_once]) const {
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) {
#pragma unroll
      for (int c = 0; c < chunks; ++c) {
        const Float8 x = values(pieces, r, c);
        if constexpr (add) store(p.residual, r, c, x);
#pragma unroll
        for (float value : x.at) squares[r] += value * value;
      }
    }
  }
  __device__ void sum_over_group(float (&squares)[rows_at_once], WarpSums& sums) const {
    if constexpr (wide) {
      squares[0] = block_sum(squares[0], sums);
    } else {
      for (int distance = lanes / 2; distance > 0; distance /= 2) {
#pragma unroll
        for (float& s : squares) s += __shfl_xor_sync(all_lanes, s, distance);
      }
    }
  }

  __device__ void store_norm(const Pieces& pieces, const uint4 (&weight)[chunks], const float (&squares)[rows_at_once],
                             WarpSums& sums) const {
    float mean[rows_at_once];
    bool in_range = true;
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) {
      mean[r] = squares[r] * p.inverse_d + p.eps;
      in_range = in_range && is_in_range(mean[r]);
    }
    if constexpr (may_leave_range<Element>) {
      // All lanes of the warp, or of the block, go the same way: they share the sums.
      if (wide ? !in_range : __any_sync(all_lanes, !in_range)) return store_norm_of_any(pieces, sums);
    }
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) store_row(pieces, weight, r, norm_scale(mean[r]));
  }

  __device__ void store_row(const Pieces& pieces, const uint4 (&weight)[chunks], int r, float scale) const {
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      const Float8 w = to_floats<Element>(weight[c]);
      Float8 y = values(pieces, r, c);
#pragma unroll
      for (int i = 0; i < 8; ++i) y.at[i] = y.at[i] * scale * (w.at[i] + p.added);
      store_out(r, c, y);
    }
  }

  // Rows whose squares leave the range of float (gpu/norm/norm_scale.cuh). They are rare, so registers are saved for the
  // others: x and the weight are loaded again. A lane reads only those pieces of x that nobody else overwrites.
  __device__ void store_norm_of_any(const Pieces& pieces, WarpSums& sums) const {
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) {
      float largest = 0;
#pragma unroll
      for (int c = 0; c < chunks; ++c) {
        const Float8 x = values_again(pieces, r, c);
#pragma unroll
        for (float value : x.at) largest = fmaxf(largest, fabsf(value));
      }
      if constexpr (wide) {
        largest = block_largest(largest, sums);
      } else {
        for (int distance = lanes / 2; distance > 0; distance /= 2) {
          largest = fmaxf(largest, __shfl_xor_sync(all_lanes, largest, distance));
        }
      }
      const float power = power_for(largest, p.eps);
      float squares[rows_at_once] = {};
#pragma unroll
      for (int c = 0; c < chunks; ++c) {
        const Float8 x = values_again(pieces, r, c);
#pragma unroll
        for (float value : x.at) squares[0] += value * power * (value * power);
      }
      sum_over_group(squares, sums);
      const float scale = norm_scale(squares[0] * p.inverse_d + p.eps * power * power);
#pragma unroll
      for (int c = 0; c < chunks; ++c) {
        const Float8 w = has(c) ? to_floats<Element>(static_cast<const uint4*>(p.weight)[lane + c * lanes]) : Float8{};
        Float8 y = values_again(pieces, r, c);
#pragma unroll
        for (int i = 0; i < 8; ++i) y.at[i] = y.at[i] * power * scale * (w.at[i] + p.added);
        store_out(r, c, y);
      }
    }
  }
};

template <class Element, bool add, int chunks, bool wide, class Out>
__global__ void __launch_bounds__(most_norm_threads(wide), least_norm_blocks(wide, add, chunks, Out::quantises))
rmsnorm_row_kernel(const __grid_constant__ NormParams p, int lanes, const __grid_constant__ Out out) {
  __shared__ WarpSums sums;
  using Lanes = NormLanes<Element, add, chunks, wide, Out>;
  const int group = wide ? 0 : threadIdx.x / lanes, groups = wide ? 1 : blockDim.x / lanes;
  Lanes at{p, groups, static_cast<int>(threadIdx.x) - group * lanes, lanes,
           blockIdx.x * groups * Lanes::rows_at_once + group};
  if constexpr (Lanes::found_once) at.input_row = at.find(p.input, 0), at.residual_row = at.find(p.residual, 0);
  constexpr bool weight_last = norm_weight_last(wide, chunks);
  uint4 weight[chunks];
  if constexpr (!weight_last) at.load_weight(weight);
  // The previous kernel on the stream may still write x, residual and a stored scale, or read out. Nobody writes the weight.
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
  typename Lanes::Pieces pieces;
  at.load(pieces);
  if constexpr (Out::quantises) at.out_scale = out.scale(), at.e5m2 = out.e5m2;
  float squares[Lanes::rows_at_once] = {};
  at.sum_over_lane(pieces, squares);
  at.sum_over_group(squares, sums);
  if constexpr (weight_last) at.load_weight(weight);
  keep_packed(weight);
#pragma unroll
  for (int r = 0; r < Lanes::rows_at_once; ++r) at.keep_packed(pieces, r);
  at.store_norm(pieces, weight, squares, sums);
}

}  // namespace flashladder::gpu
