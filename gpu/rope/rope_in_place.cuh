// RoPE on q and k where they lie: a thread rotates `pairs` neighbouring pairs of one head and is done.
// Must equal reference/rope_ops.cpp.
// grid   tokens x heads        block  lane x head x token, see in_place_shape      no shared memory
//   neox          pieces of `pairs` elements, at pairs lane and rotary_dim / 2 + pairs lane
//   interleaved   2 pairs elements, at 2 pairs lane
// There is no loop, no division, and no lane without work. Against a kernel that keeps the rotations for three heads at once
// (rope_kernel.cuh), 32/8 heads of 128: 5.18 us for 5.95 with 64 tokens, 23.3 for 24.5 with 4096, 333 for 334 with 65536
// (neox; interleaved 331 for 335 with 65536).
#pragma once

#include "gpu/ptx/griddepcontrol.cuh"
#include "gpu/rope/angles.cuh"
#include "gpu/rope/rope_params.hpp"

namespace flashladder::gpu {

template <class Element, RopeStyle style, class Angles, int pairs>
__global__ void __launch_bounds__(in_place_threads)
rope_in_place_kernel(const __grid_constant__ InPlaceParams p, const __grid_constant__ Angles angles) {
  const auto lane = static_cast<std::int32_t>(threadIdx.x);
  const auto head = static_cast<std::int32_t>(blockIdx.y * blockDim.y + threadIdx.y);
  const auto token = static_cast<std::int32_t>(blockIdx.x * blockDim.z + threadIdx.z);  // at most nnz + 319
  griddepcontrol_wait();  // q, k and positions may be in the making in front of us
  griddepcontrol_launch_dependents();
  if (token >= p.nnz || head >= p.num_heads) return;
  const std::int32_t position = p.positions[token];
  const bool is_k = head >= p.q_heads;
  Element* first = static_cast<Element*>(is_k ? p.k : p.q) + token * (is_k ? p.k_token : p.q_token) +
                   (is_k ? head - p.q_heads : head) * (is_k ? p.k_head : p.q_head);
  std::uint32_t words[pairs];
  Element* second = nullptr;
  if constexpr (style == RopeStyle::neox) {
    first += pairs * lane;
    second = first + p.rotary_dim / 2;
    load_words<pairs / 2>(first, words);
    load_words<pairs / 2>(second, words + pairs / 2);
  } else {
    first += 2 * pairs * lane;
    load_words<pairs>(first, words);
  }
  Rotations<pairs> rotations;
#pragma unroll
  for (int i = 0; i < pairs; i += 4) angles.four(position, pairs * lane + i, p.rotary_dim, i, rotations);
  rotate<Element, style>(rotations, words);
  if constexpr (style == RopeStyle::neox) {
    store_words<pairs / 2>(first, words);
    store_words<pairs / 2>(second, words + pairs / 2);
  } else {
    store_words<pairs>(first, words);
  }
}

}  // namespace flashladder::gpu
