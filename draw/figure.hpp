// What figures have in common: a title with a note under it, a legend, ticks of an axis.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "draw/svg.hpp"

namespace flashladder::draw {

inline constexpr double margin = 20;  // pixels of empty paper around every figure

struct Caption {
  std::string title = {}, note = {};  // either may be empty; a note is wrapped to the width of its figure
};

// Writes the caption at the top of a figure of this width and returns the y where the drawing starts.
double draw_caption(Canvas& canvas, const Caption& caption, double figure_width);

enum class Swatch { box, disc, ring, square };  // a box stands for an area, the others are marks of points

struct LegendEntry {
  Paint paint;  // nothing: words only
  std::string text;
  Swatch swatch = Swatch::box;
};

// One mark: a ring is hollow, and a square larger than a disc.
void draw_mark(Canvas& canvas, Point centre, Swatch shape, const Paint& paint, std::string_view tooltip = {});

// A swatch and words for each entry, wrapped; at is the top left corner. Returns the y under the last line.
double draw_legend(Canvas& canvas, Point at, double width, const std::vector<LegendEntry>& entries);

// 0, s, 2 s .. up to high, s = 1, 2 or 5 times a power of ten, at most `most` steps. Only 0 if high is not positive.
std::vector<double> ticks_up_to(double high, int most);

// Label every how many of the cells of this size, so that labels get `room` pixels each: 1, 2 or 5 times a power of ten.
std::int32_t index_step(double cell, double room);

}  // namespace flashladder::draw
