#include "draw/mask_picture.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "core/visibility.hpp"
#include "draw/text.hpp"

namespace flashladder::draw {
namespace {

constexpr double smallest_single_cell = 8;  // pixels; smaller cells have no gap and are drawn as runs

struct MaskGrid {
  const AttentionParams& params;
  std::int32_t qo_len, kv_len;
  std::span<const std::uint8_t> custom_mask;
  Point origin;
  double cell;

  bool sees(std::int32_t i, std::int32_t j) const { return visible(params, qo_len, kv_len, i, j, custom_mask.data()); }
  Box cells(std::int32_t i, std::int32_t j, std::int32_t count) const {
    const double gap = cell >= smallest_single_cell ? 1 : 0;
    return {origin.x + j * cell, origin.y + i * cell, count * cell - gap, cell - gap};
  }
};

// Draws a row and returns how many keys it sees.
std::int32_t draw_row(Canvas& canvas, const MaskGrid& grid, std::int32_t i) {
  const std::int32_t longest_run = grid.cell >= smallest_single_cell ? 1 : grid.kv_len;
  std::int32_t seen = 0;
  for (std::int32_t j = 0, end; j < grid.kv_len; j = end) {
    const bool is_seen = grid.sees(i, j);
    for (end = j + 1; end < grid.kv_len && end - j < longest_run && grid.sees(i, end) == is_seen;) ++end;
    canvas.rect(grid.cells(i, j, end - j), {.fill = is_seen ? blue : fog});
    seen += is_seen ? end - j : 0;
  }
  return seen;
}

void draw_diagonal(Canvas& canvas, const MaskGrid& grid) {
  const std::int32_t shift = grid.kv_len - grid.qo_len, first = std::max(0, -shift), last = grid.qo_len - 1;
  const auto centre = [&](std::int32_t i) { return grid.cells(i, i + shift, 1).centre(); };
  canvas.line(centre(first), centre(last), {.stroke = orange, .width = 1.5, .dashed = true});
  const double side = std::max(grid.cell, 6.0);
  const Point corner = grid.cells(last, grid.kv_len - 1, 1).centre();
  canvas.rect({corner.x - side / 2, corner.y - side / 2, side, side}, {.stroke = orange, .width = 3});
}

void draw_indices(Canvas& canvas, const MaskGrid& grid) {
  for (std::int32_t j = 0; j < grid.kv_len; j += index_step(grid.cell, 24)) {
    const Point p{grid.cells(0, j, 1).centre().x, grid.origin.y - 6};
    canvas.text(p, std::to_string(j), {.size = 11, .anchor = Anchor::middle, .colour = muted});
  }
  for (std::int32_t i = 0; i < grid.qo_len; i += index_step(grid.cell, 14)) {
    const Point p{grid.origin.x - 6, grid.cells(i, 0, 1).centre().y + 4};
    canvas.text(p, std::to_string(i), {.size = 11, .anchor = Anchor::end, .colour = muted});
  }
}

}  // namespace

Svg mask_picture(const AttentionParams& params, std::int32_t qo_len, std::int32_t kv_len,
                 std::span<const std::uint8_t> custom_mask, const Caption& caption) {
  require(qo_len >= 1 && qo_len <= max_mask_side, "qo_len", qo_len, "must be 1 .. 1024 to be drawn");
  require(kv_len >= 1 && kv_len <= max_mask_side, "kv_len", kv_len, "must be 1 .. 1024 to be drawn");
  require(params.mask != MaskMode::custom || custom_mask.size() == static_cast<std::size_t>(qo_len) * kv_len, "custom_mask",
          custom_mask.size(), "must hold qo_len * kv_len bytes");

  const double cell = std::clamp(std::floor(440.0 / std::max(qo_len, kv_len)), 1.0, 28.0);
  const double left = margin + 46, width = std::max(left + kv_len * cell + 110, 400.0);
  Canvas canvas;
  const double top = draw_caption(canvas, caption, width) + 34;
  const MaskGrid grid{params, qo_len, kv_len, custom_mask, {left, top}, cell};

  const double right = left + kv_len * cell, bottom = top + qo_len * cell;
  const bool counts = cell >= 12;
  for (std::int32_t i = 0; i < qo_len; ++i) {
    const std::int32_t seen = draw_row(canvas, grid, i);
    if (!counts) continue;
    const Point p{right + 10, grid.cells(i, 0, 1).centre().y + 4};
    canvas.text(p, seen == 0 ? "0: empty row" : std::to_string(seen),
                {.size = 11, .colour = seen == 0 ? vermillion : muted, .bold = seen == 0});
  }
  draw_diagonal(canvas, grid);
  draw_indices(canvas, grid);
  canvas.text({(left + right) / 2, top - 22}, "key j", {.anchor = Anchor::middle});
  canvas.text({margin + 10, (top + bottom) / 2}, "query i", {.anchor = Anchor::middle, .turned = -90});
  if (counts) canvas.text({right + 10, top - 6}, "keys seen", {.size = 11, .colour = muted});
  const double end = draw_legend(canvas, {margin, bottom + 16}, width - 2 * margin,
                                 {{blue, "seen"}, {fog, "not seen"}, {orange, "j = i + kv_len - qo_len"}});
  return canvas.finish(width, end + margin - 8, caption.title);
}

}  // namespace flashladder::draw
