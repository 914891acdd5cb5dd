#include "draw/softmax_timeline.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "draw/text.hpp"

namespace flashladder::draw {
namespace {

constexpr double row_names = 130;  // pixels on the left

struct Strip {
  Box box;
  double column;  // width of a step
  double low, high;

  double centre(std::size_t step) const { return box.x + (static_cast<double>(step) + 0.5) * column; }
  double y(double value) const { return box.bottom() - (value - low) / (high - low) * box.height; }
  bool roomy() const { return column >= 44; }
};

void draw_strip_frame(Canvas& canvas, const Strip& strip, const std::string& name, const std::string& meaning) {
  canvas.rect(strip.box, {.fill = fog});
  canvas.text({margin, strip.box.y + 16}, name, {.bold = true});
  double y = strip.box.y + 32;
  for (const std::string& line : wrap(meaning, row_names - 6, 11)) {
    canvas.text({margin, y}, line, {.size = 11, .colour = muted});
    y += 14;
  }
}

void draw_maximum(Canvas& canvas, const Strip& strip, std::span<const SoftmaxStep> steps) {
  std::vector<Point> climb;
  const TextStyle value{.size = 11, .anchor = Anchor::middle, .bold = true};
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const bool seen = std::isfinite(steps[s].m);
    const double middle = strip.centre(s), y = seen ? strip.y(steps[s].m) : strip.box.bottom();
    if (seen) climb.insert(climb.end(), {{middle - strip.column / 2, y}, {middle + strip.column / 2, y}});
    if (strip.roomy()) canvas.text({middle, y - 6}, label(steps[s].m), value);
  }
  canvas.polyline(climb, {.stroke = vermillion, .width = 2});
}

void draw_logits(Canvas& canvas, const Strip& strip, std::span<const SoftmaxStep> steps) {
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const double spacing = strip.column / (static_cast<double>(steps[s].logits.size()) + 1);
    double x = strip.centre(s) - strip.column / 2;
    for (const double logit : steps[s].logits) {
      x += spacing;
      if (!std::isfinite(logit)) continue;
      canvas.circle({x, strip.y(logit)}, 3, {.fill = sky, .stroke = blue}, steps[s].label + ": x = " + label(logit));
    }
  }
}

void draw_bars(Canvas& canvas, const Strip& strip, std::span<const SoftmaxStep> steps, double SoftmaxStep::*value,
               Rgb colour) {
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const double v = steps[s].*value, y = std::isfinite(v) ? strip.y(v) : strip.box.bottom();
    const double width = std::min(strip.column * 0.6, 40.0);
    canvas.rect({strip.centre(s) - width / 2, y, width, strip.box.bottom() - y}, {.fill = colour},
                steps[s].label + ": " + label(v));
    if (strip.roomy()) canvas.text({strip.centre(s), y - 5}, label(v), {.size = 11, .anchor = Anchor::middle});
  }
}

// The strip of logits spans every finite logit and m, with room above for a number.
std::pair<double, double> range_of_logits(std::span<const SoftmaxStep> steps) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  const auto include = [&](double v) {
    if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
  };
  for (const SoftmaxStep& step : steps) {
    include(step.m);
    for (const double logit : step.logits) include(logit);
  }
  if (low > high) return {0, 1};
  const double span = std::max(high - low, 1e-3 * std::max(1.0, std::abs(high)));
  return {low - 0.12 * span, high + 0.3 * span};
}

}  // namespace

Svg softmax_timeline(std::span<const SoftmaxStep> steps, const Caption& caption) {
  const double count = static_cast<double>(std::max<std::size_t>(steps.size(), 1));
  const double column = std::clamp(640.0 / count, 6.0, 84.0);
  const double left = margin + row_names, inner = column * count, width = std::max(left + inner + margin, 420.0);
  double largest_d = 0;
  for (const SoftmaxStep& step : steps) largest_d = std::isfinite(step.d) ? std::max(largest_d, step.d) : largest_d;

  Canvas canvas;
  const double top = draw_caption(canvas, caption, width);
  const auto [low, high] = range_of_logits(steps);
  const Strip logits{{left, top, inner, 150}, column, low, high};
  const Strip sums{{left, top + 162, inner, 90}, column, 0, 1.3 * (largest_d > 0 ? largest_d : 1)};
  const Strip weights{{left, top + 264, inner, 90}, column, 0, 1.3};
  draw_strip_frame(canvas, logits, "m", "running maximum (line) of x (dots): logits in log2 units");
  draw_strip_frame(canvas, sums, "d", "sum of 2^(x - m)");
  draw_strip_frame(canvas, weights, "rescale", "2^(old m - new m): what old d and o are multiplied by");
  draw_maximum(canvas, logits, steps);
  draw_logits(canvas, logits, steps);
  draw_bars(canvas, sums, steps, &SoftmaxStep::d, green);
  draw_bars(canvas, weights, steps, &SoftmaxStep::rescale, orange);
  canvas.line({left, weights.y(1)}, {left + inner, weights.y(1)}, {.stroke = grey, .dashed = true});

  double widest = 1;
  for (const SoftmaxStep& step : steps) widest = std::max(widest, text_width(step.label, 11) + 6);
  const std::size_t every = static_cast<std::size_t>(std::ceil(widest / column));
  const double bottom = weights.box.bottom() + 18;
  for (std::size_t s = 0; s < steps.size(); s += every) {
    canvas.text({logits.centre(s), bottom}, steps[s].label, {.size = 11, .anchor = Anchor::middle, .colour = muted});
  }
  return canvas.finish(width, bottom + margin, caption.title);
}

}  // namespace flashladder::draw
