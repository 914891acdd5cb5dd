// q . k by one thread, for the rungs that anyone can read: any head_dim, any dtype, and RoPE on the way where the logits ask
// for it (ROPE_LLAMA: keys lie unrotated in the cache, core/rope.hpp).
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/attention_params.hpp"
#include "core/rope.hpp"
#include "gpu/element.cuh"
#include "gpu/rope/turns.hpp"

namespace flashladder::gpu {

// What these rungs know of RoPE: a kernel parameter.
struct RopeInAttention {
  bool on = false;
  RopeTurns turns;
};
inline RopeInAttention rope_in_attention(const AttentionParams& p) {
  if (p.pos_encoding_mode != PosEncodingMode::ROPE_LLAMA) return {};
  return {true, rope_turns(p.head_dim_qk, p.rope_scale, p.rope_theta)};
}

// The rotation of a pair at a position.
__device__ inline Rotation<float> rotation_at(const RopeInAttention& rope, std::int32_t position, std::int32_t pair) {
  return signed_rotation_by(position, rope.turns.per_position[pair]);
}

// term(0) + ... + term(n - 1) in eight sums, joined in pairs: one chain of 256 additions rounds more than near 1e5 a logit
// may be off.
template <class Term>
__device__ float sum_in_eights(std::int32_t n, const Term& term) {
  float sum[8] = {};
  std::int32_t d = 0;
  for (; d + 8 <= n; d += 8) {
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] += term(d + i);
  }
  for (; d < n; ++d) sum[0] += term(d);
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

// q(d): feature d of the query, in f32, rotated already if it must be. key [head_dim] stands at position j.
template <class Element, class Query>
__device__ float key_dot(const RopeInAttention& rope, std::int32_t head_dim, const Query& q, const Element* key,
                         std::int32_t j) {
  if (!rope.on) return sum_in_eights(head_dim, [&](std::int32_t d) { return q(d) * to_float(key[d]); });
  return sum_in_eights(head_dim / 2, [&](std::int32_t pair) {
    const RopePair at = rope_pair(RopeStyle::neox, pair, head_dim);
    float x = to_float(key[at.x]), y = to_float(key[at.y]);
    rotation_at(rope, j, pair).apply(x, y);
    return q(at.x) * x + q(at.y) * y;
  });
}

}  // namespace flashladder::gpu
