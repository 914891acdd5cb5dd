// Rotary position embedding: pair k of a head's features is rotated by position * frequency(k).
//   frequency(k) = theta^(-2 k / rotary_dim) / scale,   k = 0 .. rotary_dim / 2 - 1     (Su et al., arXiv:2104.09864, 3.2.2)
//   neox (half-rotate) pairs features (k, k + rotary_dim / 2);  interleaved (GPT-J) pairs (2 k, 2 k + 1)
// Features from rotary_dim on pass through. Inside attention (ROPE_LLAMA) the style is neox over the whole head, query i
// stands at position i + kv_len - qo_len and key j at j; keys in the cache are not rotated.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/host_device.hpp"

namespace flashladder {

enum class RopeStyle : std::uint8_t { neox, interleaved };
constexpr RopeStyle style_of(bool interleave) { return interleave ? RopeStyle::interleaved : RopeStyle::neox; }

struct RopePair {
  std::int32_t x, y;  // the two features that rotate together
};
FL_HD constexpr RopePair rope_pair(RopeStyle style, std::int32_t k, std::int32_t rotary_dim) {
  return style == RopeStyle::neox ? RopePair{k, k + rotary_dim / 2} : RopePair{2 * k, 2 * k + 1};
}

template <class T>
struct Rotation {
  T cos, sin;
  FL_HD constexpr void apply(T& x, T& y) const {
    const T rotated = x * cos - y * sin;
    y = y * cos + x * sin;
    x = rotated;
  }
};

// The angle is formed in double: at position 10^5 a float angle would already be wrong in its third digit.
template <class T>
FL_HD Rotation<T> rope_rotation(std::int64_t position, std::int32_t k, std::int32_t rotary_dim, double scale, double theta) {
  const double angle = static_cast<double>(position) * std::pow(theta, -2.0 * k / rotary_dim) / scale;
  return {static_cast<T>(std::cos(angle)), static_cast<T>(std::sin(angle))};
}

// Rotates one head vector in place.
template <class T>
FL_HD void apply_rope(T* head, RopeStyle style, std::int64_t position, std::int32_t rotary_dim, double scale, double theta) {
  for (std::int32_t k = 0; k < rotary_dim / 2; ++k) {
    const RopePair pair = rope_pair(style, k, rotary_dim);
    rope_rotation<T>(position, k, rotary_dim, scale, theta).apply(head[pair.x], head[pair.y]);
  }
}

}  // namespace flashladder
