#include "draw/bar_chart.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.hpp"
#include "draw/text.hpp"

namespace flashladder::draw {
namespace {

constexpr double bar_height = 18, bar_pitch = 27, axis_length = 420;

bool drawable(double value) { return std::isfinite(value) && value >= 0; }

struct Axis {
  bool logarithmic;
  double low = 0, high = 1;  // values at the two ends

  Axis(std::span<const Bar> bars, bool logarithmic_) : logarithmic(logarithmic_) {
    double smallest = std::numeric_limits<double>::infinity(), largest = 0;
    for (const Bar& bar : bars) {
      double total = 0;
      for (const double part : bar.parts) total += drawable(part) ? part : 0;
      largest = std::max(largest, total);
      if (total > 0) smallest = std::min(smallest, total);
    }
    if (largest > 0) high = largest;
    if (logarithmic) {
      low = std::pow(10, std::floor(std::log10(std::min(smallest, high)) - 0.2));
      high = std::pow(10, std::ceil(std::log10(high)));
    }
  }
  double x(double value) const {
    if (!logarithmic) return axis_length * value / high;
    return value <= low ? 0 : axis_length * std::log10(value / low) / std::log10(high / low);
  }
  // Round in the unit that the axis is written in: multiples of 2 MiB, not of 2 000 000 B.
  std::vector<double> ticks(const std::string& base) const {
    if (!logarithmic) {
      const double factor = unit_for(high, base).factor;
      std::vector<double> round = ticks_up_to(high / factor, 5);
      for (double& tick : round) tick *= factor;
      return round;
    }
    std::vector<double> decades;
    const double step = std::ceil(std::log10(high / low) / 8);
    for (double e = std::round(std::log10(low)); e <= std::log10(high) + 1e-9; e += step) decades.push_back(std::pow(10, e));
    return decades;
  }
};

std::string total_text(const Bar& bar, const std::string& unit) {
  return with_unit(std::accumulate(bar.parts.begin(), bar.parts.end(), 0.0), unit);
}

void draw_bar(Canvas& canvas, Point at, const Bar& bar, const Axis& axis, const BarChartOptions& options) {
  double sum = 0;
  for (std::size_t i = 0; i < bar.parts.size(); ++i) {
    if (!drawable(bar.parts[i])) continue;
    const double from = axis.x(sum), to = axis.x(sum += bar.parts[i]);
    const std::string name = i < options.part_names.size() ? options.part_names[i] + ": " : "";
    canvas.rect({at.x + from, at.y, to - from, bar_height}, {.fill = category(static_cast<std::int64_t>(i))},
                bar.label + ", " + name + with_unit(bar.parts[i], options.unit));
  }
  const std::string value = total_text(bar, options.unit);
  const Point end{at.x + axis.x(sum) + 6, at.y + bar_height - 5};
  canvas.text(end, value, {.bold = true});
  if (!bar.note.empty()) canvas.text({end.x + 1.15 * text_width(value, 12) + 8, end.y}, bar.note, {.colour = muted});
}

}  // namespace

Svg bar_chart(std::span<const Bar> bars, const BarChartOptions& options) {
  double label_width = 0, value_width = 0;
  for (const Bar& bar : bars) {
    require(!options.logarithmic || bar.parts.size() <= 1, "parts", bar.label, "a logarithmic bar cannot be cut into parts");
    require(bar.parts.size() <= 1 || options.part_names.size() >= bar.parts.size(), "part_names", bar.label,
            "every part of a bar needs a name");
    label_width = std::max(label_width, text_width(bar.label, 12));
    value_width = std::max(value_width, 1.15 * text_width(total_text(bar, options.unit) + bar.note, 12) + 22);
  }
  const double left = margin + label_width + 10, width = left + axis_length + value_width + margin;
  Canvas canvas;
  const double top = draw_caption(canvas, options.caption, width);
  const double bottom = top + static_cast<double>(bars.size()) * bar_pitch + 4;
  const Axis axis(bars, options.logarithmic);

  for (const double tick : axis.ticks(options.unit)) {
    const double x = left + axis.x(tick);
    canvas.line({x, top}, {x, bottom}, {.stroke = rule});
    canvas.text({x, bottom + 15}, with_unit(tick, options.unit), {.size = 11, .anchor = Anchor::middle, .colour = muted});
  }
  double y = top + 6;
  for (const Bar& bar : bars) {
    canvas.text({left - 10, y + bar_height - 5}, bar.label, {.anchor = Anchor::end});
    draw_bar(canvas, {left, y}, bar, axis, options);
    y += bar_pitch;
  }
  std::vector<LegendEntry> legend;
  for (const std::string& name : options.part_names) legend.push_back({category(std::ssize(legend)), name});
  const double end = draw_legend(canvas, {left, bottom + 28}, width - left - margin, legend);
  return canvas.finish(width, end + margin - 6, options.caption.title);
}

Svg traffic_bars(std::span<const Traffic> traffic, const Caption& caption) {
  std::vector<Bar> bars;
  for (const Traffic& t : traffic) bars.push_back({t.label, {t.q, t.k, t.v, t.o, t.statistics}});
  return bar_chart(bars, {.caption = caption, .unit = "B", .part_names = {"Q", "K", "V", "O", "m, d, lse"}});
}

}  // namespace flashladder::draw
