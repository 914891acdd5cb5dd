#include "core/text.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>

namespace flashladder {
namespace {

constexpr unsigned byte_at(std::string_view text, std::size_t i) { return static_cast<unsigned char>(text[i]); }

// The code point of a character of n bytes that utf8_length() has accepted.
char32_t code_point(std::string_view text, std::size_t n) {
  char32_t code = n == 1 ? byte_at(text, 0) : byte_at(text, 0) & (0xffu >> (n + 1));
  for (std::size_t i = 1; i < n; ++i) code = code << 6 | (byte_at(text, i) & 0x3fu);
  return code;
}

// C0 and C1 control characters, line and paragraph separators, and the marks of the bidirectional algorithm.
bool is_control(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
         (c >= 0x2066 && c <= 0x2069);
}

std::string escaped(char32_t c) {
  if (c == '\n') return "\\n";
  if (c == '\t') return "\\t";
  if (c == '\r') return "\\r";
  char text[12];
  std::snprintf(text, sizeof text, c < 0x80 ? "\\x%02x" : "\\u%04x", static_cast<unsigned>(c));
  return text;
}

}  // namespace

std::size_t utf8_length(std::string_view text) {
  const unsigned lead = byte_at(text, 0);
  if (lead < 0x80) return 1;
  const std::size_t n = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (n == 0 || n > text.size()) return 0;
  for (std::size_t i = 1; i < n; ++i) {
    if ((byte_at(text, i) & 0xc0u) != 0x80u) return 0;
  }
  const char32_t code = code_point(text, n);
  const bool overlong = (n == 3 && code < 0x800) || (n == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  return overlong || surrogate || code > 0x10ffff ? 0 : n;
}

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t n = utf8_length(text);
    if (n == 0) {
      char byte[8];
      std::snprintf(byte, sizeof byte, "\\x%02x", byte_at(text, 0));
      out += byte;
    } else if (const char32_t c = code_point(text, n); is_control(c)) {
      out += escaped(c);
    } else {
      out += text.substr(0, n);
    }
    text.remove_prefix(std::max<std::size_t>(n, 1));
  }
  return out;
}

std::size_t columns_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace flashladder
