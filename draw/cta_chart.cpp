#include "draw/cta_chart.hpp"

#include <algorithm>
#include <cmath>

#include "draw/text.hpp"

namespace flashladder::draw {
namespace {

constexpr double plot_height = 260, axis_room = 56;

// Columns as wide as fit a page, at least two pixels.
double column_width(std::size_t count) { return std::clamp(std::floor(960.0 / static_cast<double>(count + 1)), 2.0, 24.0); }

double latest(std::span<const CtaTime> ctas) {
  double most = 0;
  for (const CtaTime& cta : ctas) {
    for (const double time : {cta.end, cta.begin + cta.predicted}) most = std::isfinite(time) ? std::max(most, time) : most;
  }
  return most > 0 ? most : 1;
}

}  // namespace

Svg cta_chart(std::span<const CtaTime> ctas, const Caption& caption, const std::string& name) {
  const double pitch = column_width(ctas.size()), left = margin + axis_room;
  const double plot_width = std::max(480.0, pitch * static_cast<double>(ctas.size())), width = left + plot_width + margin;
  Canvas canvas;
  const double top = draw_caption(canvas, caption, width), bottom = top + plot_height, high = latest(ctas);
  const auto y = [&](double us) { return bottom - plot_height * us / high; };
  for (const double tick : ticks_up_to(high, 6)) {
    canvas.line({left, y(tick)}, {left + plot_width, y(tick)}, {.stroke = rule});
    canvas.text({left - 8, y(tick) + 4}, label(tick) + " us", {.size = 11, .anchor = Anchor::end, .colour = muted});
  }
  double x = left;
  for (std::size_t i = 0; i < ctas.size(); ++i, x += pitch) {
    const CtaTime& cta = ctas[i];
    if (!std::isfinite(cta.begin) || !std::isfinite(cta.end) || cta.end < cta.begin) continue;
    const std::string tooltip = name + " " + std::to_string(i) + ": " + label(cta.begin) + " to " + label(cta.end) +
                                " us, predicted " + label(cta.predicted) + " us";
    canvas.rect({x, y(cta.end), std::max(1.0, pitch - 1), y(cta.begin) - y(cta.end)}, {.fill = sky}, tooltip);
    if (!std::isfinite(cta.predicted)) continue;
    const double mark = y(cta.begin + cta.predicted);
    canvas.line({x, mark}, {x + std::max(1.0, pitch - 1), mark}, {.stroke = vermillion, .width = 2});
  }
  const double end = draw_legend(canvas, {left, bottom + 20}, plot_width,
                                 {{sky, "measured, start to end of a " + name}, {vermillion, "predicted end"}});
  return canvas.finish(width, end + margin - 6, caption.title);
}

}  // namespace flashladder::draw
