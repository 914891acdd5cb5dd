// A token's rotations, and a head that is rotated by them: what RoPE in place and RoPE + append have in common.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "core/checks.hpp"
#include "core/rope.hpp"
#include "reference/element_io.hpp"
#include "reference/kept.hpp"

namespace flashladder::reference {

using Rotations = std::span<const Rotation<float>>;  // [rotary_dim / 2]

// Where a token's rotations come from. check(): whether there are some for this entry of an array of positions. at(): valid
// until the thread asks again.
struct ComputedAngles {
  std::int32_t rotary_dim;
  RopeStyle style;
  float rope_scale, rope_theta;
  std::optional<Llama31Scaling> llama31;

  void check(const char* argument, std::int64_t index, std::int32_t position) const {
    require_element(position >= 0, argument, index, position, "must not be negative");
  }
  Rotations at(std::int32_t position) const {
    const std::span<Rotation<float>> rotations = kept<Rotation<float>, ComputedAngles>(rotary_dim / 2);
    std::int32_t pair = 0;
    for (Rotation<float>& r : rotations) {
      r = rope_rotation<float>(position, pair++, rotary_dim, rope_scale, rope_theta, llama31);
    }
    return rotations;
  }
};

// Positions of int64 are looked at whole: no row of the cache, and so refused, is one whose lower half alone would be.
struct CachedAngles {
  std::int32_t rotary_dim;
  RopeStyle style;
  ConstTensor cos_sin_cache;  // [max_pos, rotary_dim]: a position's cosines, then its sines

  void check(const char* argument, std::int64_t index, std::int64_t position) const {
    require_element(position >= 0 && position < cos_sin_cache.shape[0], argument, index, position,
                    "must be a row of cos_sin_cache");
  }
  Rotations at(std::int64_t position) const {
    const std::span<Rotation<float>> rotations = kept<Rotation<float>, CachedAngles>(rotary_dim / 2);
    const float* cosines = cos_sin_cache.data_as<const float>() + position * cos_sin_cache.strides[0];
    for (std::size_t p = 0; p < rotations.size(); ++p) rotations[p] = {cosines[p], cosines[rotations.size() + p]};
    return rotations;
  }
};

// The first rotary_dim features, dense elements from the offset on, rotated: valid until the thread asks again.
inline std::span<float> rotated_head(const ConstTensor& from, std::int64_t from_offset, RopeStyle style,
                                     Rotations rotations) {
  const auto rotary_dim = static_cast<std::int32_t>(2 * rotations.size());
  const std::span<float> features = kept<float, struct Features>(rotary_dim);
  load_row(from, from_offset, rotary_dim, features.data());
  for (std::int32_t pair = 0; pair < rotary_dim / 2; ++pair) {
    const RopePair f = rope_pair(style, pair, rotary_dim);
    rotations[static_cast<std::size_t>(pair)].apply(features[static_cast<std::size_t>(f.x)],
                                                    features[static_cast<std::size_t>(f.y)]);
  }
  return features;
}

// ... stored: `to` may be `from`.
inline void rotate_head(const ConstTensor& from, std::int64_t from_offset, const Tensor& to, std::int64_t to_offset,
                        RopeStyle style, Rotations rotations) {
  const std::span<float> features = rotated_head(from, from_offset, style, rotations);
  store_row(features.data(), static_cast<std::int64_t>(features.size()), to, to_offset);
}

}  // namespace flashladder::reference
