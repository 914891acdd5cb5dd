// Numbers and texts at the border: whole-text parsing without locale, shortest printing, and input quoted safely in errors.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "core/error.hpp"
#include "core/text.hpp"

namespace flashladder::ladder {

// The number that all of text spells, in the one form that every reader here takes: decimal, without leading zeros, signs
// but a minus, blanks, hexadecimal, "inf" or "nan". Nothing for any other text, and for a number that the type can't hold:
// too large, or (other than 0) so small that it would be rounded to 0 or lose digits.
template <class Number>
std::optional<Number> number_from(std::string_view text) {
  const std::string_view digits = text.substr(text.starts_with('-') ? 1 : 0);
  if (digits.size() > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9') return std::nullopt;
  Number n{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if constexpr (std::is_floating_point_v<Number>) {
    if (!std::isfinite(n) || std::fpclassify(n) == FP_SUBNORMAL) return std::nullopt;
  }
  return n;
}

// The shortest decimal that reads back as x: 0.1f is "0.1".
inline std::string shortest(float x) {
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof text, x).ptr);
}

// Text from a file or command line, fit for a message: quoted, cut after some 80 bytes, and printable.
inline std::string shown(std::string_view text) {
  constexpr std::size_t most = 80;
  std::size_t end = std::min(text.size(), most);
  while (end < text.size() && end > 0 && (text[end] & 0xc0) == 0x80) --end;  // not within a character
  return "\"" + printable(text.substr(0, end)) + (text.size() > end ? "...\"" : "\"");
}

// Runs f; an InputError from inside gets `where` (a file, a case of a table) in front of its argument.
template <class F>
auto within(const std::string& where, F f) {
  try {
    return f();
  } catch (const InputError& e) {
    throw InputError(where + ": " + e.argument, e.value, e.rule, e.request);
  }
}

}  // namespace flashladder::ladder
