// Bit-exact 8-bit floats, storage types as those of core/half.hpp: E4M3 (no infinities, +-448 at most, one NaN: 0x7f with
// either sign; often called E4M3FN) and E5M2 (IEEE 754's rules, as a shorter binary16: +-57344 at most).
// A float is rounded to nearest even and saturates: what is too large, infinities too, becomes the largest finite number of
// its sign, because one infinity in a cache would spoil all that read it. Every NaN becomes 0x7f.
// (Micikevicius et al., arXiv:2209.05433, for the formats; saturation as of the GPU's conversion, PTX ISA, cvt.satfinite.)
#pragma once

#include <bit>
#include <cstdint>

#include "core/host_device.hpp"

namespace flashladder {

// A format of one sign bit, 7 - fraction_bits exponent bits with this bias, and its largest finite number.
template <int fraction_bits, int bias, std::uint8_t largest>
struct Float8Format {
  static constexpr std::uint8_t max_bits = largest, nan_bits = 0x7f;

  FL_HD static constexpr std::uint8_t encode(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return nan_bits;
    constexpr std::uint32_t dropped = 23 - fraction_bits, rebias = (127u - bias) << 23;
    std::uint32_t f = 0;
    if (magnitude >= rebias + (1u << 23)) {  // normal: rebias the exponent, drop what is rounded away
      f = (magnitude - rebias + (1u << (dropped - 1)) - 1u + ((magnitude >> dropped) & 1u)) >> dropped;
    } else {  // subnormal: units of 2^(1 - bias - fraction_bits); half a unit ties to zero, and less is zero
      const std::uint32_t shift = 151u - bias - fraction_bits - (magnitude >> 23);
      const std::uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
      if (shift <= 24) f = (significand + (1u << (shift - 1)) - 1u + ((significand >> shift) & 1u)) >> shift;
    }
    return static_cast<std::uint8_t>(((u >> 24) & 0x80u) | (f < largest ? f : largest));
  }
  // Of a number that is neither infinite nor NaN.
  FL_HD static constexpr float decode_finite(std::uint8_t bits) {
    const std::uint32_t sign = (bits & 0x80u) << 24, magnitude = bits & 0x7fu;
    if (magnitude >> fraction_bits != 0) {
      return std::bit_cast<float>(sign | ((magnitude << (23 - fraction_bits)) + ((127u - bias) << 23)));
    }
    constexpr auto unit = std::bit_cast<float>((128u - bias - fraction_bits) << 23);  // 2^(1 - bias - fraction_bits)
    const float value = static_cast<float>(magnitude) * unit;  // subnormal or zero: exact in float
    return sign ? -value : value;
  }
};

struct Float8E4M3 {
  using Format = Float8Format<3, 7, 0x7e>;
  std::uint8_t bits = 0;

  Float8E4M3() = default;
  FL_HD explicit constexpr Float8E4M3(float x) : bits(Format::encode(x)) {}
  FL_HD explicit constexpr operator float() const {
    if ((bits & 0x7fu) == 0x7fu) return std::bit_cast<float>(((bits & 0x80u) << 24) | 0x7fc00000u);
    return Format::decode_finite(bits);
  }
};

struct Float8E5M2 {
  using Format = Float8Format<2, 15, 0x7b>;
  std::uint8_t bits = 0;

  Float8E5M2() = default;
  FL_HD explicit constexpr Float8E5M2(float x) : bits(Format::encode(x)) {}
  FL_HD explicit constexpr operator float() const {
    const std::uint32_t magnitude = bits & 0x7fu;
    if (magnitude > 0x7cu) return std::bit_cast<float>(((bits & 0x80u) << 24) | 0x7fc00000u);
    if (magnitude == 0x7cu) return std::bit_cast<float>(((bits & 0x80u) << 24) | 0x7f800000u);
    return Format::decode_finite(bits);
  }
};

}  // namespace flashladder
