// Angles of RoPE as whole numbers. A position turns pair k by position * frequency(k) / 2 pi turns, of which only the part
// behind the point matters. In units of 2^-64 turn a product of 64-bit integers drops the whole turns by itself: the range
// reduction is exact, costs one multiplication and works at any position; floats would first lose their digits, and doubles
// are slow on most GPUs. per_position is off by less than one unit, so an angle by less than position * 2^-64 turn.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/host_device.hpp"
#include "core/rope.hpp"

namespace flashladder::gpu {

struct RopeTurns {
  static constexpr std::int32_t most_pairs = 256;     // rotary_dim 512; a kernel takes the whole table as a parameter
  std::uint64_t per_position[most_pairs] = {};        // [rotary_dim / 2], 2^-64 turn
};

// frequency(k) of core/rope.hpp. Remembers the last table of the calling thread: layers of a model ask for one again and
// again. Throws InputError for more than most_pairs.
const RopeTurns& rope_turns(std::int32_t rotary_dim, float rope_scale, float rope_theta);

// The rotation by position * per_position. Errors: 2^-34 turn of the bits that are cut off, the rounding to float of at most
// an eighth of a turn, and those of the sine and cosine there.
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

}  // namespace flashladder::gpu
