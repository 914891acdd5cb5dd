// gpu/decode/tile_rotation.cuh on the CPU: the lanes of a warp rotate a tile of keys in place, and walk from tile to tile.
// And what decode makes of keys that are rounded behind their rotation.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "core/half.hpp"
#include "core/rotated_tile.hpp"
#include "core/swizzle.hpp"
#include "gpu/rope/turns.hpp"
#include "walkthroughs/narrate.hpp"

namespace flashladder::walkthroughs {

inline std::vector<std::uint64_t> turn_table(int head_dim, float theta) {
  std::vector<std::uint64_t> table;
  for (int pair = 0; pair < head_dim / 2; ++pair) table.push_back(gpu::turns_per_position(pair, head_dim, 1, theta));
  return table;
}

// One step ahead: a product of complex numbers, as the lanes multiply.
inline Rotation<float> walked(Rotation<float> at, Rotation<float> step) {
  return {std::fma(at.cos, step.cos, -(at.sin * step.sin)), std::fma(at.sin, step.cos, at.cos * step.sin)};
}

template <int head_dim>
class WarpRotation {
 public:
  static constexpr int tokens = 16, chunks = head_dim / 8;
  using Place = RotatedPlace<chunks>;
  using Tile = std::array<std::array<float, head_dim>, tokens>;

  // tile_step: from a warp's tile to its next, in tokens. exact_every: tiles until the angles are formed anew.
  WarpRotation(const std::vector<std::uint64_t>& turns, int tile_step, int exact_every = rotation_exact_every)
      : turns_(turns), tile_step_(tile_step), exact_every_(exact_every) {}

  void turn_to(std::int32_t token) {
    const bool exact = tiles_++ % exact_every_ == 0;
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 8; ++i) {
        const std::uint64_t turns = turns_[Place::chunk(lane) * 8 + i];
        at_[lane][i] = exact ? gpu::rotation_by(token + Place::token(lane), turns)
                             : walked(at_[lane][i], gpu::rotation_by(tile_step_, turns));
      }
    }
  }

  template <class Element>
  void rotate_keys(Tile& k) const {
    for (int lane = 0; lane < 32; ++lane) {
      std::array<Rotation<float>, 8> at = at_[lane];
      for (int u = 0; u < Place::steps; ++u) {
        std::array<float, head_dim>& key = k[Place::token(lane) + u * Place::at_once];
        for (int i = 0; i < 8; ++i) {
          const int feature = Place::chunk(lane) * 8 + i;
          if (u > 0) at[i] = walked(at[i], gpu::rotation_by(Place::at_once, turns_[feature]));
          float x = key[feature], y = key[feature + head_dim / 2];
          at[i].apply(x, y);
          key[feature] = static_cast<float>(Element(x));
          key[feature + head_dim / 2] = static_cast<float>(Element(y));
        }
      }
    }
  }

  // How far this tile's rotations are from the exact ones, its first token being `token`.
  double off_by(std::int32_t token) const {
    double worst = 0;
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 8; ++i) {
        const std::uint64_t of_pair = turns_[Place::chunk(lane) * 8 + i];
        const std::uint64_t turns = static_cast<std::uint64_t>(token + Place::token(lane)) * of_pair;  // whole ones drop out
        const double angle = std::ldexp(static_cast<double>(turns), -64) * 2 * std::acos(-1.0);
        const Rotation<float> r = at_[lane][i];
        worst = std::max({worst, std::abs(r.cos - std::cos(angle)), std::abs(r.sin - std::sin(angle))});
      }
    }
    return worst;
  }

 private:
  const std::vector<std::uint64_t>& turns_;
  int tile_step_, exact_every_, tiles_ = 0;
  std::array<std::array<Rotation<float>, 8>, 32> at_;
};

// The most lanes of a phase that want one bank group when the lanes take tokens as `token` says.
template <int chunks, class Token>
int conflict_ways(const Token& token) {
  int worst = 1;
  for (int first = 0; first < 32; first += lanes_per_phase) {
    std::array<std::int32_t, lanes_per_phase> offsets{};
    for (int i = 0; i < lanes_per_phase; ++i) {
      const int t = token(first + i), chunk = RotatedPlace<chunks>::chunk(first + i);
      offsets[i] = (t * chunks + swizzled_chunk(Swizzle::bytes_128, t, chunk)) * chunk_bytes;
    }
    worst = std::max(worst, bank_conflict_ways(offsets));
  }
  return worst;
}

}  // namespace flashladder::walkthroughs
