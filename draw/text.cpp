#include "draw/text.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>

#include "core/text.hpp"

namespace flashladder::draw {
namespace {

constexpr double largest_coordinate = 1e6;

std::string formatted(double value, std::chars_format format, int digits) {
  char buffer[64];
  return {buffer, std::to_chars(buffer, std::end(buffer), value, format, digits).ptr};
}

std::string without_trailing_zeros(std::string text) {
  if (text.find('.') == std::string::npos) return text;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

// Bytes of the UTF-8 character that text starts with, 0 if it is none that XML 1.0 (section 2.2) allows.
std::size_t character_length(std::string_view text) {
  const std::size_t n = utf8_length(text);
  const bool blank = text[0] == '\t' || text[0] == '\n' || text[0] == '\r';
  const bool control = n == 1 && static_cast<unsigned char>(text[0]) < 0x20 && !blank;
  const bool forbidden = text.starts_with("\xef\xbf\xbe") || text.starts_with("\xef\xbf\xbf");  // U+FFFE, U+FFFF
  return control || forbidden ? 0 : n;
}

}  // namespace

std::string number(double value) {
  if (!std::isfinite(value)) return "0";
  const double cut = std::clamp(value, -largest_coordinate, largest_coordinate);
  return without_trailing_zeros(formatted(cut, std::chars_format::fixed, 2));
}

std::string label(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  const double size = std::abs(value);
  if (size != 0 && (size < 1e-3 || size >= 1e7)) return formatted(value, std::chars_format::scientific, 1);
  const int decimals = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.01 ? 3 : 4;
  return without_trailing_zeros(formatted(value, std::chars_format::fixed, decimals));
}

std::string counted(std::int64_t n, std::string_view noun) {
  return std::to_string(n) + " " + std::string(noun) + (n == 1 ? "" : "s");
}

std::string percent(double share) { return label(100 * share) + " %"; }

Unit unit_for(double value, std::string_view base) {
  static const std::vector<Unit> seconds{{1, "s"}, {1e-3, "ms"}, {1e-6, "\u00b5s"}, {1e-9, "ns"}};
  static const std::vector<Unit> bytes{{0x1p40, "TiB"}, {0x1p30, "GiB"}, {0x1p20, "MiB"}, {0x1p10, "KiB"}, {1, "B"}};
  const bool prefixed = (base == "s" || base == "B") && std::isfinite(value) && value != 0;
  if (!prefixed) return {1, std::string(base)};
  const std::vector<Unit>& units = base == "s" ? seconds : bytes;
  const auto unit = std::find_if(units.begin(), units.end(), [&](const Unit& u) { return std::abs(value) >= u.factor; });
  return unit == units.end() ? units.back() : *unit;
}

std::string with_unit(double value, std::string_view base) {
  if (!std::isfinite(value)) return label(value);
  const Unit unit = unit_for(value, base);
  return label(value / unit.factor) + (unit.name.empty() ? "" : " ") + unit.name;
}

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t n = character_length(text);
    switch (n == 1 ? text[0] : '\0') {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += n == 0 ? std::string_view("\xef\xbf\xbd") : text.substr(0, n);
    }
    text.remove_prefix(n == 0 ? 1 : n);
  }
  return out;
}

double text_width(std::string_view text, double size) {
  const auto starts_character = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; };
  return 0.55 * size * static_cast<double>(std::count_if(text.begin(), text.end(), starts_character));
}

std::vector<std::string> wrap(std::string_view text, double width, double size) {
  std::vector<std::string> lines;
  std::string line;
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    if (!line.empty() && text_width(line, size) + text_width(word, size) + text_width(" ", size) > width) {
      lines.push_back(std::move(line));
      line.clear();
    }
    line += (line.empty() ? "" : " ") + std::string(word);
    text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
  }
  if (!line.empty()) lines.push_back(std::move(line));
  return lines;
}

}  // namespace flashladder::draw
