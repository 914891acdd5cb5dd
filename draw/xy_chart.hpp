// Points over two axes, linear or logarithmic: a roofline, rates over lengths. Colours are the caller's, so that who is blue
// in one picture of a page is blue in all of them.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "draw/figure.hpp"

namespace flashladder::draw {

struct XyPoint {
  double x = 0, y = 0;
  std::string tooltip = {};
};

struct XySeries {
  std::string name;  // in the legend
  Rgb colour = blue;
  std::vector<XyPoint> points;
  bool joined = false;   // by a line, in the order of x
  bool hollow = false;   // a ring instead of a disc: those of others
  bool square = false;   // a square, larger than the discs, and a wider line: one's own among them
};

// A line that is no measurement series, with its name at its right end: a ceiling.
struct XyRoof {
  std::string name;
  std::vector<Point> points;  // in the units of the axes
};

struct XyAxis {
  std::string title;
  bool logarithmic = false;
  std::vector<double> ticks = {};  // none: round ones
};

struct XyOptions {
  Caption caption = {};
  XyAxis x = {}, y = {};
  std::vector<XyRoof> roofs = {};
};

// What an axis can't show (not finite, below 0, 0 on a logarithmic one, further from 1 than 10^30) is not drawn. A linear axis starts at 0.
Svg xy_chart(std::span<const XySeries> series, const XyOptions& options);

}  // namespace flashladder::draw
