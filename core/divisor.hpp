// Division by a number that stays the same: a multiplication and a shift instead of some thirty instructions.
// (Granlund and Montgomery, Division by Invariant Integers using Multiplication, PLDI 1994, section 4: with l = ceil(log2 d)
// and m = floor(2^(31 + l) / d) + 1, n / d = floor(n m / 2^(31 + l)) for every n below 2^31.)
#pragma once

#include <bit>
#include <cstdint>

#include "core/host_device.hpp"

namespace flashladder {

struct Divisor {
  std::int32_t number = 1;
  std::uint32_t multiplier = 0x80000001u;
  std::int32_t shift = 31;

  Divisor() = default;
  // number: at least 1.
  explicit constexpr Divisor(std::int32_t number_)
      : number(number_), shift(31 + std::bit_width(static_cast<std::uint32_t>(number_) - 1)) {
    multiplier = static_cast<std::uint32_t>((std::uint64_t{1} << shift) / static_cast<std::uint32_t>(number)) + 1;
  }

  // n / number, n >= 0.
  FL_HD constexpr std::int32_t quotient(std::int32_t n) const {
    return static_cast<std::int32_t>(std::uint64_t{static_cast<std::uint32_t>(n)} * multiplier >> shift);
  }
};

}  // namespace flashladder
