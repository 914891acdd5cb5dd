// Bit-exact 16-bit floats: IEEE binary16 (Half) and bfloat16 (BFloat16), rounded to nearest even, NaN and infinities kept.
// Storage types only: arithmetic is done in float. constexpr, so the tests check all 65536 values at compile speed.
#pragma once

#include <bit>
#include <cstdint>

#include "core/host_device.hpp"

namespace flashladder {

struct BFloat16 {
  std::uint16_t bits = 0;

  BFloat16() = default;
  FL_HD explicit constexpr BFloat16(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
    // Adding 0x7fff plus the lowest kept bit carries exactly when nearest-even rounds up; a NaN must not carry to infinity.
    bits = static_cast<std::uint16_t>(is_nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  FL_HD explicit constexpr operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

struct Half {
  std::uint16_t bits = 0;

  Half() = default;
  FL_HD explicit constexpr Half(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
    std::uint32_t h = 0;
    if (magnitude > 0x7f800000u) {
      h = 0x7e00u;  // NaN
    } else if (magnitude >= 0x477ff000u) {
      h = 0x7c00u;  // 65520 and more round to infinity
    } else if (magnitude >= 0x38800000u) {  // normal: rebias the exponent by 127 - 15, drop 13 bits
      h = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    } else if (magnitude > 0x33000000u) {  // subnormal: units of 2^-24; 2^-25 itself ties to zero
      const std::uint32_t shift = 126u - (magnitude >> 23);  // 14 .. 24
      const std::uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
      const std::uint32_t half_way = 1u << (shift - 1), kept = significand >> shift;
      h = (significand + half_way - 1u + (kept & 1u)) >> shift;
    }
    bits = static_cast<std::uint16_t>(sign | h);
  }
  FL_HD explicit constexpr operator float() const {
    const std::uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 0x1fu, fraction = bits & 0x3ffu;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
    if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // subnormal or zero: exact in float
    return sign ? -magnitude : magnitude;
  }
};

}  // namespace flashladder
