// Horizontal bars: times of rungs, bytes of traffic in parts. Bars start at 0, unless the axis is logarithmic.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "draw/figure.hpp"

namespace flashladder::draw {

struct Bar {
  std::string label;
  std::vector<double> parts;  // drawn one after the other; what is not finite or < 0 draws nothing and is said in words
  std::string note = {};      // behind the value, e.g. "8.2x"
};

struct BarChartOptions {
  Caption caption = {};
  std::string unit = {};                     // "s" and "B" find their prefix (ms, GiB)
  std::vector<std::string> part_names = {};  // a legend, where bars have several parts
  bool logarithmic = false;                  // for bars of one part, values > 0
};

// Throws InputError when logarithmic bars have several parts or names are fewer than parts.
Svg bar_chart(std::span<const Bar> bars, const BarChartOptions& options);

// The bytes that FlashAttention 1 and 2 move between memory and chip, by tensor: bars with these names, unit B.
struct Traffic {
  std::string label;                                  // "FA1: loop over K outside"
  double q = 0, k = 0, v = 0, o = 0, statistics = 0;  // bytes; statistics: m, d or lse
};
Svg traffic_bars(std::span<const Traffic> traffic, const Caption& caption);

}  // namespace flashladder::draw
