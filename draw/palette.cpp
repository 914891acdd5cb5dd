#include "draw/palette.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>

namespace flashladder::draw {

std::string hex(Rgb colour) {
  char text[8];
  std::snprintf(text, sizeof text, "#%02x%02x%02x", colour.r, colour.g, colour.b);
  return text;
}

Rgb mix(Rgb a, Rgb b, double share_of_b) {
  const double t = std::clamp(share_of_b, 0.0, 1.0);
  const auto channel = [t](int x, int y) { return static_cast<std::uint8_t>(std::lround(x + (y - x) * t)); };
  return {channel(a.r, b.r), channel(a.g, b.g), channel(a.b, b.b)};
}

Rgb category(std::int64_t index) {
  constexpr Rgb hues[] = {blue, orange, green, vermillion, purple, sky, yellow, brown};
  const int i = static_cast<int>((index % num_categories + num_categories) % num_categories);
  const Rgb hue = hues[i % 8];
  return i < 8 ? hue : i < 16 ? mix(hue, paper, 0.55) : mix(hue, ink, 0.45);
}

Rgb ramp(double t) {
  constexpr Rgb stops[] = {{68, 1, 84},    {71, 45, 123},  {59, 82, 139},   {44, 114, 142}, {33, 145, 140},
                           {40, 174, 128}, {94, 201, 98},  {173, 220, 48},  {253, 231, 37}};
  if (std::isnan(t)) return fog;
  const double position = std::clamp(t, 0.0, 1.0) * (std::size(stops) - 1);
  const auto below = std::min(static_cast<std::size_t>(position), std::size(stops) - 2);
  return mix(stops[below], stops[below + 1], position - static_cast<double>(below));
}

Rgb ink_on(Rgb background) {
  const double luma = 0.299 * background.r + 0.587 * background.g + 0.114 * background.b;
  return luma > 135 ? ink : paper;
}

}  // namespace flashladder::draw
