#include "draw/figure.hpp"

#include <cmath>

#include "draw/text.hpp"

namespace flashladder::draw {

double draw_caption(Canvas& canvas, const Caption& caption, double figure_width) {
  constexpr double title_size = 15, note_size = 12;
  double y = margin;
  for (const std::string& line : wrap(caption.title, figure_width - 2 * margin, title_size)) {
    y += title_size;
    canvas.text({margin, y - 2}, line, {.size = title_size, .bold = true});
    y += 4;
  }
  for (const std::string& line : wrap(caption.note, figure_width - 2 * margin, note_size)) {
    y += note_size;
    canvas.text({margin, y}, line, {.size = note_size, .colour = muted});
    y += 5;
  }
  return y == margin ? y : y + 12;
}

void draw_mark(Canvas& canvas, Point centre, Swatch shape, const Paint& paint, std::string_view tooltip) {
  const bool hollow = shape == Swatch::ring;
  const Style style{.fill = hollow ? Paint(paper) : paint, .stroke = hollow ? paint : Paint(paper),
                    .width = hollow ? 2.0 : 1.0};
  if (shape == Swatch::square) canvas.rect({centre.x - 6, centre.y - 6, 12, 12}, style, tooltip);
  else canvas.circle(centre, hollow ? 4 : 5, style, tooltip);
}

double draw_legend(Canvas& canvas, Point at, double width, const std::vector<LegendEntry>& entries) {
  constexpr double swatch = 12, line = 20;
  Point p = at;
  for (const LegendEntry& entry : entries) {
    const double words = entry.paint.css == "none" ? 0 : swatch + 6;
    const double entry_width = words + text_width(entry.text, 12) + 16;
    if (p.x > at.x && p.x + entry_width > at.x + width) p = {at.x, p.y + line};
    if (words > 0 && entry.swatch != Swatch::box) {
      draw_mark(canvas, {p.x + swatch / 2, p.y + swatch / 2}, entry.swatch, entry.paint);
    } else if (words > 0) {
      canvas.rect({p.x, p.y, swatch, swatch}, {.fill = entry.paint, .stroke = muted, .width = 0.5});
    }
    canvas.text({p.x + words, p.y + 10}, entry.text, {.colour = muted});
    p.x += entry_width;
  }
  return entries.empty() ? at.y : p.y + line;
}

std::vector<double> ticks_up_to(double high, int most) {
  std::vector<double> ticks{0};
  if (!std::isfinite(high) || !(high > 0)) return ticks;
  const double power = std::pow(10, std::floor(std::log10(high / most)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (high / (factor * power) <= most) step = factor * power;
  }
  for (int i = 1; i * step <= high * (1 + 1e-9); ++i) ticks.push_back(i * step);
  return ticks;
}

std::int32_t index_step(double cell, double room) {
  std::int32_t step = 1;
  for (int i = 0; step * cell < room; ++i) step = i % 3 == 1 ? step / 2 * 5 : step * 2;
  return step;
}

}  // namespace flashladder::draw
