// A matrix as coloured cells: scores or weights of an attention head, query by key. Small matrices show their numbers,
// large ones stay below a megabyte because equal neighbours in a row become one line.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "draw/figure.hpp"

namespace flashladder::draw {

enum class ColourScale : std::uint8_t { linear, square_root, logarithmic };

struct HeatmapOptions {
  Caption caption = {};
  std::string row_name = "query", column_name = "key", value_name = "weight";
  std::vector<std::string> row_labels = {}, column_labels = {};  // empty: indices; shown where a cell is large enough
  ColourScale scale = ColourScale::linear;  // square_root and logarithmic start at 0, for values >= 0
  std::span<const float> also_in_scale = {};  // values of another picture, so that both have one colour scale
  double least_width = 380;                   // pixels, of what is narrower by itself
};

// values: [rows, columns], row-major. What is not finite was not seen (masked) and stays blank. A matrix with more cells
// than max_heatmap_cells is folded: a drawn cell shows the largest of k x k values, and the note says so.
// Throws InputError where the sizes disagree.
inline constexpr std::int64_t max_heatmap_cells = 400 * 400;  // that are seen
Svg heatmap(std::int32_t rows, std::int32_t columns, std::span<const float> values, const HeatmapOptions& options = {});

}  // namespace flashladder::draw
