// Numbers and texts at the border: whole-text parsing without locale, shortest printing, and input quoted safely in errors.
#pragma once

#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "core/error.hpp"

namespace flashladder::ladder {

// The number that all of text spells, or nothing: "12 ", "1e999", "+3", "inf" and "" spell none.
template <class Number>
std::optional<Number> number_from(std::string_view text) {
  Number n{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if constexpr (std::is_floating_point_v<Number>) {
    if (!std::isfinite(n)) return std::nullopt;
  }
  return n;
}

// The shortest decimal that reads back as x: 0.1f is "0.1".
inline std::string shortest(float x) {
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof text, x).ptr);
}

// Text from a file or command line, fit for a message: quoted, at most 80 characters, control characters replaced.
inline std::string shown(std::string_view text) {
  constexpr std::size_t most = 80;
  std::string quoted = "\"";
  for (char c : text.substr(0, most)) quoted += static_cast<unsigned char>(c) < 32 || c == 127 ? '?' : c;
  return quoted + (text.size() > most ? "...\"" : "\"");
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
