// What the tests of pictures and pages share: a tiny XML reader that says what is wrong, and counting.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "draw/svg.hpp"
#include "draw/text.hpp"

namespace flashladder::draw {

inline constexpr float infinity = std::numeric_limits<float>::infinity();
inline constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
inline const std::string hostile = "<b>&\"\xff\x01 nan";

struct Element {
  std::string name, attributes;
  std::string operator[](const std::string& key) const {
    const std::size_t begin = attributes.find(" " + key + "=\"");
    if (begin == std::string::npos) return "";
    const std::size_t value = begin + key.size() + 3;
    return attributes.substr(value, attributes.find('"', value) - value);
  }
};

// A tiny XML reader: returns the elements, or what is wrong as the only element's name.
inline std::vector<Element> elements_of(const std::string& xml) {
  std::vector<Element> found;
  std::vector<std::string> open;
  for (std::size_t i = 0; (i = xml.find('<', i)) != std::string::npos;) {
    const std::size_t end = xml.find('>', i);
    if (end == std::string::npos) return {{"a tag does not end", ""}};
    std::string tag = xml.substr(i + 1, end - i - 1);
    i = end;
    if (tag.find('<') != std::string::npos) return {{"< in a tag: " + tag, ""}};
    if (tag[0] == '!') continue;
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return {{"unbalanced " + tag, ""}};
      open.pop_back();
      continue;
    }
    const std::string name = tag.substr(0, tag.find_first_of(" /"));
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return {{"quotes in " + tag, ""}};
    if (tag.back() != '/') open.push_back(name);
    found.push_back({name, tag.substr(name.size())});
  }
  for (std::size_t i = 0; (i = xml.find('&', i)) != std::string::npos; ++i) {
    const std::string_view entity = std::string_view(xml).substr(i, xml.find(';', i) - i + 1);
    if (entity != "&amp;" && entity != "&lt;" && entity != "&gt;" && entity != "&quot;") return {{"a bare &", ""}};
  }
  return open.empty() ? found : std::vector<Element>{{"never closed: " + open.back(), ""}};
}

// Checks what holds for every picture and returns its elements.
inline std::vector<Element> checked(const Svg& svg) {
  const std::vector<Element> elements = elements_of(svg.text);
  REQUIRE_MESSAGE(elements.size() > 1, elements[0].name);
  CHECK(elements[0]["viewBox"] == "0 0 " + number(svg.width) + " " + number(svg.height));
  CHECK(svg.width < 2000);
  CHECK(svg.text.size() < 1'000'000);
  for (const Element& e : elements) {
    if (e.name == "svg") continue;  // its aria-label repeats the title
    const bool is_number = e.attributes.find("nan") == std::string::npos && e.attributes.find("inf") == std::string::npos;
    CHECK_MESSAGE(is_number, e.attributes);
  }
  return elements;
}

template <class Matches>
std::int64_t count(const std::vector<Element>& elements, const Matches& matches) {
  return std::count_if(elements.begin(), elements.end(), matches);
}
inline bool is_arrow(const Element& e) { return e.name == "path" && e["d"].find('C') != std::string::npos; }

inline std::int64_t occurrences(const std::string& text, const std::string& part) {
  std::int64_t n = 0;
  for (std::size_t i = 0; (i = text.find(part, i)) != std::string::npos; i += part.size()) ++n;
  return n;
}

}  // namespace flashladder::draw
