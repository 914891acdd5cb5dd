// Numbers and text as they go into SVG and HTML: independent of the locale, escaped, and never "nan" in an attribute.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flashladder::draw {

// A coordinate: at most two decimals, no trailing zeros. What is not finite becomes 0, what is huge is cut to +-10^6,
// so that a broken number bends a picture but never breaks the file.
std::string number(double value);

// A number to read: about three digits; "nan", "inf" and "-inf" are said as they are.
std::string label(double value);
std::string percent(double share);                              // 0.934 -> 93.4 %
std::string counted(std::int64_t n, std::string_view noun);    // 1 item, 2 items

struct Unit {
  double factor = 1;  // of the base unit
  std::string name;
};
Unit unit_for(double value, std::string_view base);          // "s" and "B" find the prefix that suits value: 0.0031 s -> ms
std::string with_unit(double value, std::string_view base);  // 3.1 ms

// Escaped for XML text and attributes. Bytes that are no UTF-8, and characters that XML forbids, become U+FFFD: a token of
// a byte-level tokenizer may be half a character.
std::string escape(std::string_view text);

// A careful guess, in pixels, for a sans-serif font of this size: nothing here can measure a font.
double text_width(std::string_view text, double size);
std::vector<std::string> wrap(std::string_view text, double width, double size);  // lines of at most width, cut at spaces

}  // namespace flashladder::draw
