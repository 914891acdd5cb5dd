// Where a token's rotations come from: a cache of cosines and sines, or the position itself.
//   rotation(position, pair, ...)      the rotation of one pair
//   four(position, pair, ..., at, r)   those of pairs `pair` .. `pair` + 3 (`pair` is a multiple of four), written to
//                                      entries at .. at + 3 of r
#pragma once

#include "gpu/rope/rotate.cuh"
#include "gpu/rope/turns.hpp"

namespace flashladder::gpu {

struct CachedAngles {
  static constexpr bool computed = false;
  const float* cos_sin;  // [max_pos, rotary_dim]: rows of rotary_dim / 2 cosines and as many sines
  std::int64_t stride;

  __device__ Rotation<float> rotation(std::int32_t position, std::int32_t pair, std::int32_t rotary_dim) const {
    const float* row = cos_sin + position * stride;
    return {row[pair], row[rotary_dim / 2 + pair]};
  }
  template <int pairs>
  __device__ void four(std::int32_t position, std::int32_t pair, std::int32_t rotary_dim, int at,
                       Rotations<pairs>& r) const {
    const float* row = cos_sin + position * stride + pair;
    const float4 cos = *reinterpret_cast<const float4*>(row);
    const float4 sin = *reinterpret_cast<const float4*>(row + rotary_dim / 2);
    r.cos[at] = cos.x, r.cos[at + 1] = cos.y, r.cos[at + 2] = cos.z, r.cos[at + 3] = cos.w;
    r.sin[at] = sin.x, r.sin[at + 1] = sin.y, r.sin[at + 2] = sin.z, r.sin[at + 3] = sin.w;
  }
};

struct ComputedAngles {
  static constexpr bool computed = true;
  RopeTurns turns;

  __device__ Rotation<float> rotation(std::int32_t position, std::int32_t pair, std::int32_t) const {
    return rotation_by(position, turns.per_position[pair]);
  }
  template <int pairs>
  __device__ void four(std::int32_t position, std::int32_t pair, std::int32_t rotary_dim, int at,
                       Rotations<pairs>& r) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Rotation<float> one = rotation(position, pair + i, rotary_dim);
      r.cos[at + i] = one.cos;
      r.sin[at + i] = one.sin;
    }
  }
};

}  // namespace flashladder::gpu
