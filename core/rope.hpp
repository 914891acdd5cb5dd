// Rotary position embedding: pair k of a head's features is rotated by position * frequency(k).
//   frequency(k) = theta^(-2 k / rotary_dim) / scale,   k = 0 .. rotary_dim / 2 - 1     (Su et al., arXiv:2104.09864, 3.2.2)
//   Llama 3.1 divides by scale only what turns slowly: Llama31Scaling
//   neox (half-rotate) pairs features (k, k + rotary_dim / 2);  interleaved (GPT-J) pairs (2 k, 2 k + 1)
// Features from rotary_dim on pass through. Inside attention (ROPE_LLAMA) the style is neox over the whole head, query i
// stands at position i + kv_len - qo_len and key j at j; keys in the cache are not rotated.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <optional>

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

// Llama 3.1's frequencies, for a model that was trained on old_context_len tokens and then stretched by scale. f is a pair's
// theta^(-2 k / rotary_dim); within the old context it turns old_context_len f / (2 pi) times.
//   at least high_freq_factor turns   f stays: the old context has shown all of its angles
//   at most low_freq_factor turns     f / scale, as without Llama31Scaling
//   between                           (1 - s) f / scale + s f, where s goes from 0 to 1 linearly with f
// FlashInfer's apply_llama31_rope: s = clamp(f a + b, 0, 1), a = old / (2 pi (high - low)), b = -1 / (high / low - 1).
struct Llama31Scaling {
  float low_freq_factor = 1, high_freq_factor = 4;
  std::int32_t old_context_len = 8192;

  friend constexpr bool operator==(const Llama31Scaling&, const Llama31Scaling&) = default;

  // What a frequency f becomes. T is double or long double.
  template <class T>
  T frequency(T f, T scale) const {
    const T turns = static_cast<T>(old_context_len) * f / (2 * std::numbers::pi_v<T>);
    const T low = low_freq_factor, high = high_freq_factor, part = (turns - low) / (high - low);
    const T s = part < 0 ? 0 : part > 1 ? 1 : part;
    return (1 - s) * f / scale + s * f;
  }
};

// Pair k's frequency. T is double or long double.
template <class T>
T rope_frequency(std::int32_t k, std::int32_t rotary_dim, T scale, T theta, const std::optional<Llama31Scaling>& llama31) {
  const T f = std::pow(theta, T{-2} * k / rotary_dim);
  return llama31 ? llama31->frequency(f, scale) : f / scale;
}

// The angle is formed in double: at position 10^5 a float angle would already be wrong in its third digit.
template <class T>
FL_HD Rotation<T> rope_rotation(std::int64_t position, std::int32_t k, std::int32_t rotary_dim, double scale, double theta) {
  const double angle = static_cast<double>(position) * std::pow(theta, -2.0 * k / rotary_dim) / scale;
  return {static_cast<T>(std::cos(angle)), static_cast<T>(std::sin(angle))};
}

template <class T>
Rotation<T> rope_rotation(std::int64_t position, std::int32_t k, std::int32_t rotary_dim, double scale, double theta,
                          const std::optional<Llama31Scaling>& llama31) {
  if (!llama31) return rope_rotation<T>(position, k, rotary_dim, scale, theta);
  const double angle = static_cast<double>(position) * rope_frequency(k, rotary_dim, scale, theta, llama31);
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
