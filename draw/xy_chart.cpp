#include "draw/xy_chart.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "draw/text.hpp"

namespace flashladder::draw {
namespace {

constexpr double plot_width = 540, plot_height = 330, gutter = 58;

// 131072, not 1.31e+05: whole numbers are lengths.
std::string tick_text(double value) {
  if (value < 1e7 && value == std::floor(value)) return std::to_string(static_cast<long>(value));
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

class Scale {
 public:
  Scale(const XyAxis& axis, double length) : logarithmic_(axis.logarithmic), length_(length) {}

  bool shows(double v) const { return v <= 1e30 && (logarithmic_ ? v >= 1e-30 : v >= 0); }  // NaN: no
  void include(double v) {
    if (!shows(v)) return;
    low_ = std::min(low_, v);
    high_ = std::max(high_, v);
  }
  // After the last value: room at both ends, and never an empty range.
  void settle() {
    if (!(high_ > 0)) low_ = logarithmic_ ? 1 : 0, high_ = 1;
    if (logarithmic_) low_ /= 1.6, high_ *= 1.6;
    else low_ = 0, high_ *= 1.08;
  }
  double at(double v) const {
    const double share = logarithmic_ ? std::log(v / low_) / std::log(high_ / low_) : v / high_;
    return length_ * std::clamp(share, 0.0, 1.0);
  }
  bool inside(double v) const { return v >= low_ * (1 - 1e-9) && v <= high_ * (1 + 1e-9); }
  std::vector<double> ticks() const {
    if (!logarithmic_) return ticks_up_to(high_, 6);
    const bool narrow = high_ / low_ < 300;
    std::vector<double> ticks;
    for (double e = std::floor(std::log10(low_)); e <= std::log10(high_); ++e) {
      for (const double digit : {1.0, 2.0, 5.0}) {
        const double tick = digit * std::pow(10, e);
        if ((narrow || digit == 1) && inside(tick)) ticks.push_back(tick);
      }
    }
    return ticks;
  }

 private:
  bool logarithmic_;
  double length_, low_ = std::numeric_limits<double>::infinity(), high_ = 0;
};

struct Plot {
  Canvas& canvas;
  const Scale &x, &y;
  Point corner;  // bottom left
  Point at(double vx, double vy) const { return {corner.x + x.at(vx), corner.y - y.at(vy)}; }
};

void draw_axes(const Plot& plot, const XyOptions& options) {
  const Point c = plot.corner;
  double free = -1;  // where the next label under the axis has room
  for (const double tick : options.x.ticks.empty() ? plot.x.ticks() : options.x.ticks) {
    if (!plot.x.shows(tick) || !plot.x.inside(tick)) continue;
    const double x = c.x + plot.x.at(tick), half = text_width(tick_text(tick), 11) / 2 + 4;
    plot.canvas.line({x, c.y}, {x, c.y - plot_height}, {.stroke = rule});
    if (x - half < free) continue;
    plot.canvas.text({x, c.y + 15}, tick_text(tick), {.size = 11, .anchor = Anchor::middle, .colour = muted});
    free = x + half;
  }
  for (const double tick : plot.y.ticks()) {
    const double y = c.y - plot.y.at(tick);
    plot.canvas.line({c.x, y}, {c.x + plot_width, y}, {.stroke = rule});
    plot.canvas.text({c.x - 8, y + 4}, tick_text(tick), {.size = 11, .anchor = Anchor::end, .colour = muted});
  }
  plot.canvas.text({c.x + plot_width / 2, c.y + 34}, options.x.title, {.anchor = Anchor::middle, .colour = muted});
  plot.canvas.text({c.x - 44, c.y - plot_height / 2}, options.y.title,
                   {.anchor = Anchor::middle, .colour = muted, .turned = -90});
}

void draw_roof(const Plot& plot, const XyRoof& roof) {
  std::vector<Point> line;
  for (const Point& p : roof.points) line.push_back(plot.at(p.x, p.y));
  plot.canvas.polyline(line, {.stroke = ink, .width = 1.5, .dashed = true});
  if (line.empty()) return;
  const bool flat = line.size() < 2 || std::abs(line.front().y - line.back().y) < 1;
  const Point name = flat ? line.back() - Point{6, 6} : line[line.size() / 2] - Point{8, 6};
  plot.canvas.text(name, roof.name, {.size = 11, .anchor = Anchor::end, .colour = ink});
}

Swatch mark_of(const XySeries& series) {
  return series.square ? Swatch::square : series.hollow ? Swatch::ring : Swatch::disc;
}

void draw_series(const Plot& plot, const XySeries& series) {
  std::vector<XyPoint> shown;
  for (const XyPoint& p : series.points) {
    if (plot.x.shows(p.x) && plot.y.shows(p.y)) shown.push_back(p);
  }
  if (series.joined) {
    std::stable_sort(shown.begin(), shown.end(), [](const XyPoint& a, const XyPoint& b) { return a.x < b.x; });
    std::vector<Point> line;
    for (const XyPoint& p : shown) line.push_back(plot.at(p.x, p.y));
    plot.canvas.polyline(line, {.stroke = series.colour, .width = series.square ? 2.6 : 1.8, .dashed = series.hollow});
  }
  for (const XyPoint& p : shown) draw_mark(plot.canvas, plot.at(p.x, p.y), mark_of(series), series.colour, p.tooltip);
}

}  // namespace

Svg xy_chart(std::span<const XySeries> series, const XyOptions& options) {
  Scale x(options.x, plot_width), y(options.y, plot_height);
  const auto include = [&](double vx, double vy) {
    if (!x.shows(vx) || !y.shows(vy)) return;
    x.include(vx);
    y.include(vy);
  };
  for (const XySeries& s : series) {
    for (const XyPoint& p : s.points) include(p.x, p.y);
  }
  for (const XyRoof& roof : options.roofs) {
    for (const Point& p : roof.points) include(p.x, p.y);
  }
  x.settle();
  y.settle();
  const double width = margin + gutter + plot_width + margin;
  Canvas canvas;
  const double top = draw_caption(canvas, options.caption, width) + 4;
  const Plot plot{canvas, x, y, {margin + gutter, top + plot_height}};
  draw_axes(plot, options);
  for (const XyRoof& roof : options.roofs) draw_roof(plot, roof);
  std::vector<LegendEntry> legend;
  for (const XySeries& s : series) {
    draw_series(plot, s);
    legend.push_back({s.colour, s.name, mark_of(s)});
  }
  const double end = draw_legend(canvas, {margin + gutter, plot.corner.y + 48}, plot_width, legend);
  return canvas.finish(width, end + margin - 6, options.caption.title);
}

}  // namespace flashladder::draw
