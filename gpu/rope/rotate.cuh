// n pairs of elements in registers, as n words of 32 bits, and the n rotations of these pairs. Which elements are a pair:
//   neox          element i of the first half and element i of the second
//   interleaved   elements 2 i and 2 i + 1
#pragma once

#include "core/rope.hpp"
#include "gpu/element.cuh"

namespace flashladder::gpu {

template <int pairs>
struct Rotations {
  float cos[pairs], sin[pairs];
};

// Loads and stores of 2, 4 or 8 words: two as one access of 8 bytes, more in accesses of 16. `from` and `to` are multiples
// of that.
template <int count>
__device__ inline void load_words(const void* from, std::uint32_t* words) {
  if constexpr (count == 2) {
    const uint2 x = *static_cast<const uint2*>(from);
    words[0] = x.x, words[1] = x.y;
  } else {
#pragma unroll
    for (int i = 0; i < count / 4; ++i) {
      const uint4 x = static_cast<const uint4*>(from)[i];
      words[4 * i] = x.x, words[4 * i + 1] = x.y, words[4 * i + 2] = x.z, words[4 * i + 3] = x.w;
    }
  }
}
template <int count>
__device__ inline void store_words(void* to, const std::uint32_t* words) {
  if constexpr (count == 2) {
    *static_cast<uint2*>(to) = {words[0], words[1]};
  } else {
#pragma unroll
    for (int i = 0; i < count / 4; ++i) {
      static_cast<uint4*>(to)[i] = {words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]};
    }
  }
}

// Rotation::apply with its contraction spelled out, so that every kernel gives the same bits.
__device__ inline void rotate(Rotation<float> r, float& x, float& y) {
  const float rotated = __fmaf_rn(x, r.cos, -__fmul_rn(y, r.sin));
  y = __fmaf_rn(y, r.cos, __fmul_rn(x, r.sin));
  x = rotated;
}

template <class Element, RopeStyle style, int pairs>
__device__ inline void rotate(const Rotations<pairs>& r, std::uint32_t (&words)[pairs]) {
  float x[2 * pairs];
#pragma unroll
  for (int i = 0; i < pairs; ++i) {
    const float2 two = to_floats<Element>(words[i]);
    x[2 * i] = two.x, x[2 * i + 1] = two.y;
  }
#pragma unroll
  for (int i = 0; i < pairs; ++i) {
    const RopePair pair = rope_pair(style, i, 2 * pairs);
    rotate({r.cos[i], r.sin[i]}, x[pair.x], x[pair.y]);
  }
#pragma unroll
  for (int i = 0; i < pairs; ++i) words[i] = pack<Element>(x[2 * i], x[2 * i + 1]);
}

}  // namespace flashladder::gpu
