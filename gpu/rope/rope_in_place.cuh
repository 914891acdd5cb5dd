// RoPE on q and k in place: a thread rotates `pairs` neighbouring pairs of one head, and has no other work.
// Must equal reference/rope_ops.cpp.
// grid   tokens x heads        block  lane x head x token, see in_place_shape
// shared memory  none, or the rotations of the block's tokens (computed angles)
//   neox          pieces of `pairs` elements, at pairs lane and rotary_dim / 2 + pairs lane
//   interleaved   2 pairs elements, at 2 pairs lane
// There is no division and no loop over heads, and few lanes are without work; for few tokens that is faster than to keep
// the rotations for several heads, as rope_kernel.cuh does (docs/measurements/h200-ops.md). Where angles are computed, the
// block computes them once for all heads that it has of a token, and shares them through shared memory.
#pragma once

#include "gpu/index_entry.cuh"
#include "gpu/ptx/griddepcontrol.cuh"
#include "gpu/ptx/load.cuh"
#include "gpu/rope/angles.cuh"
#include "gpu/rope/rope_params.hpp"

namespace flashladder::gpu {

// Computes the rotations of the block's tokens into rows [tokens of the block, rotary_dim], and returns them as a cache
// whose positions are the tokens' places in the block. Every thread of the block has to call it.
__device__ inline CachedAngles compute_once(const ComputedAngles& angles, std::int32_t position, std::int32_t rotary_dim,
                                            float* rows) {
  float* row = rows + threadIdx.z * rotary_dim;
  for (unsigned i = threadIdx.y * blockDim.x + threadIdx.x; i < rotary_dim / 2u; i += blockDim.x * blockDim.y) {
    const Rotation<float> one = angles.rotation(position, static_cast<std::int32_t>(i), rotary_dim);
    row[i] = one.cos;
    row[rotary_dim / 2 + i] = one.sin;
  }
  __syncthreads();  // every pair of every token is written before a lane reads it
  return {rows, rotary_dim};
}

// Cached angles wait for the position. Are q and k loaded while it is on its way? ptxas prefers to compute the addresses of
// the angles in front of these loads, which then wait, too. It is kept from that, but not where rows are interleaved and a
// lane has eight pairs. Such a call has more threads than the SMs hold at once (in_place_shape): other blocks fill the wait,
// and the loads in order were slower (docs/measurements/notes.md).
template <RopeStyle style, class Angles, int pairs>
constexpr bool loads_before_angles = !Angles::computed && (style == RopeStyle::neox || pairs == 4);

template <class Element, RopeStyle style, class Angles, int pairs>
__global__ void __launch_bounds__(in_place_threads)
rope_in_place_kernel(const __grid_constant__ InPlaceParams p, const __grid_constant__ Angles angles) {
  const auto lane = static_cast<std::int32_t>(threadIdx.x);
  const auto head = static_cast<std::int32_t>(blockIdx.y * blockDim.y + threadIdx.y);
  const auto token = static_cast<std::int32_t>(blockIdx.x * blockDim.z + threadIdx.z);  // at most nnz + 63
  const bool there = token < p.nnz && head < p.num_heads;
  griddepcontrol_wait();  // the previous kernel on the stream may still write q, k and positions
  griddepcontrol_launch_dependents();
  if (!Angles::computed && !there) return;
  std::int32_t position = 0;
  if constexpr (loads_before_angles<style, Angles, pairs>) {
    // ptxas would compute the addresses of q and k first.
    position = load_now(index_place(p.positions, p.position_bytes, token));
  } else if (token < p.nnz) {
    position = index_entry(p.positions, p.position_bytes, token);
  }
  const bool is_k = head >= p.q_heads;
  Element* first = static_cast<Element*>(is_k ? p.k : p.q) + token * (is_k ? p.k_token : p.q_token) +
                   (is_k ? head - p.q_heads : head) * (is_k ? p.k_head : p.q_head);
  first += (style == RopeStyle::neox ? 1 : 2) * pairs * lane;
  Element* second = first + p.rotary_dim / 2;  // neox
  std::uint32_t words[pairs];
  if (there) {
    if constexpr (style == RopeStyle::neox) {
      load_words<pairs / 2>(first, words);
      load_words<pairs / 2>(second, words + pairs / 2);
    } else {
      load_words<pairs>(first, words);
    }
  }
  if constexpr (loads_before_angles<style, Angles, pairs>) {
    // Closes no hazard, and no position is negative: both keep ptxas from using the position before it loads q and k.
    __syncwarp();
    if (position < 0) return;
  }
  Rotations<pairs> rotations;
  const auto rotations_from = [&](const auto& cache, std::int32_t row) {
#pragma unroll
    for (int i = 0; i < pairs; i += 4) cache.four(row, pairs * lane + i, p.rotary_dim, i, rotations);
  };
  if constexpr (Angles::computed) {
    __shared__ __align__(16) float rows[2 * pairs * in_place_threads];  // a token's lanes have `pairs` pairs each
    const CachedAngles cache = compute_once(angles, position, p.rotary_dim, rows);
    if (!there) return;
    rotations_from(cache, static_cast<std::int32_t>(threadIdx.z));
  } else {
    rotations_from(angles, position);
  }
  rotate<Element, style>(rotations, words);
  if constexpr (style == RopeStyle::neox) {
    store_words<pairs / 2>(first, words);
    store_words<pairs / 2>(second, words + pairs / 2);
  } else {
    store_words<pairs>(first, words);
  }
}

}  // namespace flashladder::gpu
