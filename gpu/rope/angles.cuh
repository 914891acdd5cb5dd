// Where a token's rotations come from: a cache of cosines and sines, or the position itself. Both give one pair's rotation,
// and the eight pairs of a lane that holds pieces a (elements 8 lane ..) and b (rotary_dim / 2 + 8 lane ..) of a head:
//   neox          pair 8 lane + i     is (a[i], b[i]),                            i = 0 .. 7
//   interleaved   pair 4 lane + j     is (a[2 j], a[2 j + 1]), and pair rotary_dim / 4 + 4 lane + j the same of b,
//                                                                             j = 0 .. 3
#pragma once

#include "core/rope.hpp"
#include "gpu/element.cuh"
#include "gpu/rope/turns.hpp"

namespace flashladder::gpu {

struct EightRotations {
  float cos[8], sin[8];
};

// The first pair of half `h` (0, 1) of a lane's eight.
template <RopeStyle style>
__device__ inline std::int32_t first_pair(std::int32_t lane, int h, std::int32_t rotary_dim) {
  return style == RopeStyle::neox ? 8 * lane + 4 * h : 4 * lane + h * (rotary_dim / 4);
}

struct CachedAngles {
  const float* cos_sin;  // [max_pos, rotary_dim]: rows of rotary_dim / 2 cosines and as many sines
  std::int64_t stride;

  __device__ Rotation<float> rotation(std::int32_t position, std::int32_t pair, std::int32_t rotary_dim) const {
    const float* row = cos_sin + position * stride;
    return {row[pair], row[rotary_dim / 2 + pair]};
  }
  template <RopeStyle style>
  __device__ EightRotations eight(std::int32_t position, std::int32_t lane, std::int32_t rotary_dim) const {
    const float* row = cos_sin + position * stride;
    EightRotations r;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const std::int32_t pair = first_pair<style>(lane, h, rotary_dim);
      const float4 cos = *reinterpret_cast<const float4*>(row + pair);
      const float4 sin = *reinterpret_cast<const float4*>(row + rotary_dim / 2 + pair);
      r.cos[4 * h] = cos.x, r.cos[4 * h + 1] = cos.y, r.cos[4 * h + 2] = cos.z, r.cos[4 * h + 3] = cos.w;
      r.sin[4 * h] = sin.x, r.sin[4 * h + 1] = sin.y, r.sin[4 * h + 2] = sin.z, r.sin[4 * h + 3] = sin.w;
    }
    return r;
  }
};

struct ComputedAngles {
  RopeTurns turns;

  __device__ Rotation<float> rotation(std::int32_t position, std::int32_t pair, std::int32_t) const {
    return rotation_by(position, turns.per_position[pair]);
  }
  template <RopeStyle style>
  __device__ EightRotations eight(std::int32_t position, std::int32_t lane, std::int32_t rotary_dim) const {
    EightRotations r;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const auto one = rotation(position, first_pair<style>(lane, i / 4, rotary_dim) + i % 4, rotary_dim);
      r.cos[i] = one.cos;
      r.sin[i] = one.sin;
    }
    return r;
  }
};

// Rotation::apply with its contraction spelled out, so that every kernel gives the same bits.
__device__ inline void rotate(Rotation<float> r, float& x, float& y) {
  const float rotated = __fmaf_rn(x, r.cos, -__fmul_rn(y, r.sin));
  y = __fmaf_rn(y, r.cos, __fmul_rn(x, r.sin));
  x = rotated;
}

// Rotates the eight pairs.
template <RopeStyle style>
__device__ inline void rotate(const EightRotations& r, Float8& a, Float8& b) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const Rotation<float> one{r.cos[i], r.sin[i]};
    Float8& piece = i < 4 ? a : b;
    if constexpr (style == RopeStyle::neox) rotate(one, a.at[i], b.at[i]);
    if constexpr (style == RopeStyle::interleaved) rotate(one, piece.at[2 * (i % 4)], piece.at[2 * (i % 4) + 1]);
  }
}

}  // namespace flashladder::gpu
