#include "draw/heatmap.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.hpp"
#include "core/range.hpp"
#include "draw/text.hpp"

namespace flashladder::draw {
namespace {

constexpr int few_levels = 14, many_levels = 32;  // of colour; few make longer runs and smaller files
constexpr std::int64_t most_cells_in_many_levels = 100'000;
constexpr double logarithmic_range = 1e-5;       // of the largest value; what is smaller looks like 0
constexpr float unseen = std::numeric_limits<float>::quiet_NaN();

struct Matrix {
  std::int32_t rows, columns;
  std::vector<float> values;  // [rows, columns], NaN = unseen

  float at(std::int32_t r, std::int32_t c) const { return values[static_cast<std::size_t>(r) * columns + c]; }
  std::int64_t seen() const {
    return std::count_if(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
  }
};

// Each new cell is the largest finite value of k x k old ones.
Matrix folded(const Matrix& m, std::int32_t k) {
  Matrix out{div_up(m.rows, k), div_up(m.columns, k), {}};
  out.values.assign(static_cast<std::size_t>(out.rows) * out.columns, unseen);
  for (std::int32_t r = 0; r < m.rows; ++r) {
    for (std::int32_t c = 0; c < m.columns; ++c) {
      float& cell = out.values[static_cast<std::size_t>(r / k) * out.columns + c / k];
      if (const float v = m.at(r, c); std::isfinite(v) && !(cell >= v)) cell = v;
    }
  }
  return out;
}

// From value to 0 .. 1 and back.
struct Scale {
  ColourScale kind;
  int levels;
  double low = 0, high = 1;

  Scale(ColourScale kind_, const Matrix& m, std::span<const float> also)
      : kind(kind_), levels(m.seen() > most_cells_in_many_levels ? few_levels : many_levels) {
    low = std::numeric_limits<double>::infinity(), high = -low;
    for (const std::span<const float> values : {std::span<const float>(m.values), also}) {
      for (const float v : values) {
        if (!std::isfinite(v)) continue;
        low = std::min(low, double{v});
        high = std::max(high, double{v});
      }
    }
    if (low > high) low = 0, high = 1;
    if (kind != ColourScale::linear) low = 0;
    if (!(high > low)) high = low + 1;
  }
  double share(double value) const {
    const double t = (value - low) / (high - low);
    if (kind == ColourScale::linear) return t;
    if (kind == ColourScale::square_root) return std::sqrt(std::max(t, 0.0));
    return t <= logarithmic_range ? 0 : 1 - std::log(t) / std::log(logarithmic_range);
  }
  double value(double share) const {
    const double t = kind == ColourScale::linear        ? share
                     : kind == ColourScale::square_root ? share * share
                     : share <= 0                       ? 0
                                                        : std::pow(logarithmic_range, 1 - share);
    return low + t * (high - low);
  }
  int level(float v) const {
    return std::isfinite(v) ? std::clamp(static_cast<int>(share(v) * levels), 0, levels - 1) : -1;
  }
  Rgb colour(int level) const { return ramp(level / (levels - 1.0)); }
};

// One path a level, in cells: every run of equal neighbours is a move relative to the last run and a horizontal line of
// width 1. (The vertical offset of the stroke, half a cell, is in the first move.)
void draw_cells(Canvas& canvas, Point origin, double cell, const Matrix& m, const Scale& scale) {
  struct Pen {
    std::string d;
    std::int32_t row = 0, column = 0;
  };
  std::vector<Pen> pens(static_cast<std::size_t>(scale.levels));
  for (std::int32_t r = 0; r < m.rows; ++r) {
    for (std::int32_t c = 0, end; c < m.columns; c = end) {
      const int level = scale.level(m.at(r, c));
      for (end = c + 1; end < m.columns && scale.level(m.at(r, end)) == level;) ++end;
      if (level < 0) continue;
      Pen& pen = pens[static_cast<std::size_t>(level)];
      pen.d += pen.d.empty() ? "M" + std::to_string(c) + " " + number(r + 0.5)
                             : "m" + std::to_string(c - pen.column) + (r < pen.row ? "" : " ") + std::to_string(r - pen.row);
      pen.d += "h" + std::to_string(end - c);
      pen.row = r, pen.column = end;
    }
  }
  canvas.open_group(origin, cell);
  canvas.rect({0, 0, static_cast<double>(m.columns), static_cast<double>(m.rows)}, {.fill = fog});
  for (int level = 0; level < scale.levels; ++level) {
    const Pen& pen = pens[static_cast<std::size_t>(level)];
    if (!pen.d.empty()) canvas.path(pen.d, {.stroke = scale.colour(level)});
  }
  canvas.close_group();
}

void draw_values(Canvas& canvas, Point origin, double cell, const Matrix& m, const Scale& scale) {
  for (std::int32_t r = 0; r < m.rows; ++r) {
    for (std::int32_t c = 0; c < m.columns; ++c) {
      const int level = scale.level(m.at(r, c));
      if (level < 0) continue;
      const TextStyle style{.size = 11, .anchor = Anchor::middle, .colour = ink_on(scale.colour(level))};
      canvas.text({origin.x + (c + 0.5) * cell, origin.y + (r + 0.5) * cell + 4}, label(m.at(r, c)), style);
    }
  }
}

std::string label_of(const std::vector<std::string>& labels, std::int32_t drawn, std::int32_t fold) {
  const std::size_t i = static_cast<std::size_t>(drawn) * fold;
  return labels.empty() ? std::to_string(i) : labels[i];
}

double longest(const std::vector<std::string>& labels, std::int32_t count) {
  double width = labels.empty() ? text_width(std::to_string(count), 11) : 0;
  for (const std::string& text : labels) width = std::max(width, text_width(text, 11));
  return width;
}

void draw_colour_bar(Canvas& canvas, Box bar, const HeatmapOptions& options, const Scale& scale, bool some_unseen) {
  const double height = bar.height / scale.levels;
  for (int level = 0; level < scale.levels; ++level) {  // each overlaps the one below by a pixel: no seam shines through
    const Box band{bar.x, bar.bottom() - (level + 1) * height, bar.width, height + (level > 0 ? 1 : 0)};
    canvas.rect(band, {.fill = scale.colour(level)});
  }
  canvas.text({bar.x, bar.y - 10}, options.value_name, {.colour = muted});
  for (const double share : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    const double y = bar.bottom() - share * bar.height;
    canvas.line({bar.right(), y}, {bar.right() + 4, y}, {.stroke = muted});
    canvas.text({bar.right() + 8, y + 4}, label(scale.value(share)), {.size = 11, .colour = muted});
  }
  if (some_unseen) draw_legend(canvas, {bar.x, bar.bottom() + 16}, 200, {{fog, "not seen"}});
}

struct Layout {
  Point origin;      // of the cells
  double cell, above;  // pixels; above: room for column labels and the name over them
  std::int32_t fold;   // rows and columns of values in a cell
  bool turned;         // column labels run upwards
  double column_room;  // pixels between column labels
};

void draw_labels(Canvas& canvas, const Layout& at, const Matrix& m, const HeatmapOptions& options) {
  const std::int32_t column_step = index_step(at.cell, at.column_room), row_step = index_step(at.cell, 14);
  const TextStyle column{.size = 11, .anchor = at.turned ? Anchor::start : Anchor::middle, .colour = muted,
                         .turned = at.turned ? -90.0 : 0};
  const TextStyle row{.size = 11, .anchor = Anchor::end, .colour = muted};
  for (std::int32_t c = 0; c < m.columns; c += column_step) {
    const Point p{at.origin.x + (c + 0.5) * at.cell + (at.turned ? 4 : 0), at.origin.y - 5};
    canvas.text(p, label_of(options.column_labels, c, at.fold), column);
  }
  for (std::int32_t r = 0; r < m.rows; r += row_step) {
    canvas.text({at.origin.x - 6, at.origin.y + (r + 0.5) * at.cell + 4}, label_of(options.row_labels, r, at.fold), row);
  }
  const Point middle{at.origin.x + m.columns * at.cell / 2, at.origin.y + m.rows * at.cell / 2};
  canvas.text({middle.x, at.origin.y - at.above + 6}, options.column_name, {.anchor = Anchor::middle});
  canvas.text({margin + 10, middle.y}, options.row_name, {.anchor = Anchor::middle, .turned = -90});
}

void check(std::int32_t rows, std::int32_t columns, std::span<const float> values, const HeatmapOptions& options) {
  const auto fits = [](const auto& labels, std::int32_t n) { return labels.empty() || std::ssize(labels) == n; };
  require(rows > 0, "rows", rows, "must be at least 1");
  require(columns > 0, "columns", columns, "must be at least 1");
  require(values.size() == static_cast<std::size_t>(rows) * columns, "values", values.size(), "must hold rows * columns");
  require(fits(options.row_labels, rows), "row_labels", options.row_labels.size(), "must be empty or one a row");
  require(fits(options.column_labels, columns), "column_labels", options.column_labels.size(),
          "must be empty or one a column");
}

}  // namespace

Svg heatmap(std::int32_t rows, std::int32_t columns, std::span<const float> values, const HeatmapOptions& options) {
  check(rows, columns, values, options);
  const Matrix all{rows, columns, {values.begin(), values.end()}};
  Matrix m = all;
  Layout at{};
  for (at.fold = 1; m.seen() > max_heatmap_cells;) m = folded(all, ++at.fold);
  Caption caption = options.caption;
  if (at.fold > 1) {
    const std::string k = std::to_string(at.fold);
    caption.note += (caption.note.empty() ? "" : " ") + ("A cell shows the largest of " + k + " x " + k + " values.");
  }
  const double columns_label = longest(options.column_labels, columns);
  at.cell = std::clamp(std::floor(640.0 / std::max(m.rows, m.columns)), 1.0, 44.0);
  at.turned = !options.column_labels.empty() && columns_label > at.cell;
  at.column_room = at.turned ? 14 : columns_label + 6;
  at.above = 20 + (at.turned ? columns_label : 12);
  at.origin.x = margin + 22 + longest(options.row_labels, rows) + 6;
  const double width = std::max(at.origin.x + m.columns * at.cell + 140, options.least_width);

  Canvas canvas;
  at.origin.y = draw_caption(canvas, caption, width) + at.above;
  const Scale scale(options.scale, m, options.also_in_scale);
  draw_cells(canvas, at.origin, at.cell, m, scale);
  if (at.cell >= 34) draw_values(canvas, at.origin, at.cell, m, scale);
  draw_labels(canvas, at, m, options);
  const Box grid{at.origin.x, at.origin.y, m.columns * at.cell, m.rows * at.cell};
  const Box bar{grid.right() + 24, grid.y + 8, 14, std::clamp(grid.height, 110.0, 240.0) - 8};
  draw_colour_bar(canvas, bar, options, scale, m.seen() < std::ssize(m.values));
  return canvas.finish(width, std::max(grid.bottom(), bar.bottom() + 30) + margin, caption.title);
}

}  // namespace flashladder::draw
