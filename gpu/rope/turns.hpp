// Angles of RoPE as whole numbers. A position turns pair k by position * frequency(k) / (2 pi) turns, and only the fraction
// of a turn matters. In units of 2^-64 turn the product of two 64-bit integers drops the whole turns by itself: the range
// reduction is exact, costs one multiplication and works at any position. (In float a large angle has no digits left for the
// fraction, and double is slow on most GPUs.) per_position is off by less than one unit, and so an angle by less than
// position * 2^-64 turn.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <optional>

#include "core/host_device.hpp"
#include "core/rope.hpp"

namespace flashladder::gpu {

// frequency(k) of core/rope.hpp.
inline std::uint64_t turns_per_position(std::int32_t k, std::int32_t rotary_dim, float rope_scale, float rope_theta,
                                        const std::optional<Llama31Scaling>& llama31 = {}) {
  const auto radians = rope_frequency<long double>(k, rotary_dim, rope_scale, rope_theta, llama31);
  const long double turns = radians / (2 * std::numbers::pi_v<long double>);
  return static_cast<std::uint64_t>(std::ldexp(turns - std::floor(turns), 64));
}

struct RopeTurns {
  static constexpr std::int32_t most_pairs = 256;     // rotary_dim 512; a kernel takes the whole table as a parameter
  std::uint64_t per_position[most_pairs] = {};        // [rotary_dim / 2], 2^-64 turn
};

// The table of turns_per_position(). Each thread keeps the last one, because all layers of a model ask for the
// same. Throws InputError for more than most_pairs.
const RopeTurns& rope_turns(std::int32_t rotary_dim, float rope_scale, float rope_theta,
                            const std::optional<Llama31Scaling>& llama31 = {});

// The rotation by position * per_position. Its errors: 2^-34 turn, because the bits below are cut off; the rounding of the
// rest, at most an eighth of a turn, to float; and those of the sine and cosine of that rest.
FL_HD inline Rotation<float> rotation_by(std::int32_t position, std::uint64_t per_position) {
  const std::uint64_t turns = static_cast<std::uint64_t>(static_cast<std::uint32_t>(position)) * per_position;
  const std::uint64_t from_eighth = turns + (std::uint64_t{1} << 61);  // quadrants begin an eighth of a turn early
  const auto quadrant = static_cast<unsigned>(from_eighth >> 62);
  // What is left, -1/8 .. 1/8 turn, in units of 2^-34 turn: the bits below the quadrant, as a signed number.
  const auto rest = static_cast<std::int32_t>(static_cast<std::uint32_t>(from_eighth >> 30) ^ 0x80000000u);
  const float half_turns = static_cast<float>(rest) * 0x1p-33f;
  float sin, cos;
#if defined(__CUDA_ARCH__)
  sincospif(half_turns, &sin, &cos);
#else
  sin = std::sin(half_turns * 3.14159265358979f);
  cos = std::cos(half_turns * 3.14159265358979f);
#endif
  const float c = quadrant % 2 == 0 ? cos : sin, s = quadrant % 2 == 0 ? sin : cos;
  return {quadrant == 1 || quadrant == 2 ? -c : c, quadrant >= 2 ? -s : s};
}

// The same at any position: inside attention it is negative for queries that stand before key 0 (qo_len > kv_len).
FL_HD inline Rotation<float> signed_rotation_by(std::int32_t position, std::uint64_t per_position) {
  if (position >= 0) return rotation_by(position, per_position);
  const Rotation<float> forward = rotation_by(-position, per_position);
  return {forward.cos, -forward.sin};
}

}  // namespace flashladder::gpu
