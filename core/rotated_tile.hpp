// Which keys a lane rotates of a tile of 16 tokens in shared memory, for RoPE inside decode (gpu/decode/tile_rotation.cuh).
//
// RoPE pairs feature k with k + head_dim / 2, so a lane takes a chunk (16 bytes, eight features) of the first half of a token
// and the chunk half of a token behind it: eight pairs. chunks / 2 lanes make a token; the warp rotates 64 / chunks tokens at
// once and goes on so many tokens further, chunks / 4 times. A lane has the same eight pairs in every token.
//
//   head_dim 128, 16 chunks      lanes 0-7: token 0    lanes 8-15: token 1    lanes 16-23: token 2    lanes 24-31: token 3
//   then tokens 4-7, 8-11, 12-15
#pragma once

#include <cstdint>

#include "core/host_device.hpp"

namespace flashladder {

template <int chunks>
struct RotatedPlace {
  static constexpr int at_once = 64 / chunks, steps = chunks / 4;
  static_assert(chunks >= 8 && chunks <= 32, "half a token's chunks must be a part of the lanes");

  // The chunk of the first half; chunk + chunks / 2 is its partner.
  FL_HD static constexpr int chunk(int lane) { return lane % (chunks / 2); }
  // The lane's first token; the others are at_once apart. With 8 chunks the 8 lanes that are served at once (core/swizzle.hpp)
  // have two tokens: four apart, so that their half rows lie in different bank groups.
  FL_HD static constexpr int token(int lane) {
    const int t = lane / (chunks / 2);
    return chunks == 8 ? t % 2 * 4 + t / 2 : t;
  }
};

// A lane's rotations go from tile to tile by multiplication; after so many tiles they are formed anew from the position.
inline constexpr int rotation_exact_every = 64;

}  // namespace flashladder
