#include "draw/tile_pictures.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/swizzle.hpp"
#include "draw/text.hpp"

namespace flashladder::draw {
namespace {

struct Holder {
  std::int32_t lane = -1, element = -1, count = 0;
};

void draw_index(Canvas& canvas, Point origin, double cell_width, double cell_height, std::int32_t rows,
                std::int32_t columns) {
  const TextStyle style{.size = 11, .anchor = Anchor::middle, .colour = muted};
  for (std::int32_t c = 0; c < columns; ++c) {
    canvas.text({origin.x + (c + 0.5) * cell_width, origin.y - 6}, std::to_string(c), style);
  }
  for (std::int32_t r = 0; r < rows; ++r) {
    canvas.text({origin.x - 14, origin.y + (r + 0.5) * cell_height + 4}, std::to_string(r), style);
  }
}

void draw_holder(Canvas& canvas, Box box, const Holder& holder) {
  if (holder.count == 0) {
    canvas.rect(box, {.fill = fog});
    return;
  }
  const Rgb colour = mix(category(holder.lane / 4 % 8), paper, 0.22 * (holder.lane % 4));
  const std::string name = std::to_string(holder.lane) + ":" + std::to_string(holder.element);
  canvas.rect(box, {.fill = colour}, "lane " + std::to_string(holder.lane) + ", element " + std::to_string(holder.element));
  canvas.text({box.centre().x, box.centre().y + 4}, name, {.size = 11, .anchor = Anchor::middle, .colour = ink_on(colour)});
  if (holder.count > 1) canvas.rect(box, {.stroke = vermillion, .width = 3});
}

struct BankGrid {
  Point origin;
  std::int32_t rows, chunks, read_chunk;
  static constexpr double cell_width = 34, cell_height = 24;
  double width() const { return chunks * cell_width; }
  double bottom() const { return origin.y + rows * cell_height; }
  Box cell(std::int32_t row, std::int32_t chunk) const {
    return {origin.x + chunk * cell_width, origin.y + row * cell_height, cell_width - 1, cell_height - 1};
  }
};

void draw_banks(Canvas& canvas, const BankGrid& grid, const std::string& name, const ChunkOffset& offset_of) {
  canvas.text({grid.origin.x, grid.origin.y - 40}, name, {.size = 13, .bold = true});
  canvas.text({grid.origin.x + grid.width() / 2, grid.origin.y - 22}, "chunk of 16 bytes",
              {.size = 11, .anchor = Anchor::middle, .colour = muted});
  draw_index(canvas, grid.origin, grid.cell_width, grid.cell_height, grid.rows, grid.chunks);
  for (std::int32_t r = 0; r < grid.rows; ++r) {
    for (std::int32_t c = 0; c < grid.chunks; ++c) {
      const std::int32_t offset = offset_of(r, c);
      require(offset >= 0, "chunk offset", offset, "must not be negative");
      const std::int32_t bank = offset / chunk_bytes % bank_groups;
      const TextStyle style{.anchor = Anchor::middle, .colour = ink_on(category(bank))};
      const Box box = grid.cell(r, c);
      canvas.rect(box, {.fill = category(bank)});
      canvas.text({box.centre().x, box.centre().y + 4}, std::to_string(bank), style);
    }
  }
  std::array<std::int32_t, lanes_per_phase> offsets{};
  for (std::int32_t lane = 0; lane < lanes_per_phase; ++lane) {
    offsets[static_cast<std::size_t>(lane)] = offset_of(lane, grid.read_chunk);
    canvas.rect(grid.cell(lane, grid.read_chunk), {.stroke = ink, .width = 2.5});
  }
  const std::int32_t ways = bank_conflict_ways(offsets);
  const std::string verdict = std::to_string(ways) + "-way" + (ways == 1 ? ": no conflict" : " conflict");
  canvas.text({grid.origin.x, grid.bottom() + 22}, verdict,
              {.size = 13, .colour = ways == 1 ? mix(green, ink, 0.3) : vermillion, .bold = true});
}

}  // namespace

Svg fragment_picture(std::int32_t rows, std::int32_t columns, std::int32_t lanes, std::int32_t elements_per_lane,
                     const FragmentMap& map, const Caption& caption) {
  require(rows >= 1 && rows <= 64, "rows", rows, "must be 1 .. 64 to be drawn");
  require(columns >= 1 && columns <= 64, "columns", columns, "must be 1 .. 64 to be drawn");
  std::vector<Holder> holders(static_cast<std::size_t>(rows) * columns);
  for (std::int32_t lane = 0; lane < lanes; ++lane) {
    for (std::int32_t e = 0; e < elements_per_lane; ++e) {
      const FragmentElement at = map(lane, e);
      require(at.row >= 0 && at.row < rows, "row", at.row, "must lie in the tile");
      require(at.col >= 0 && at.col < columns, "col", at.col, "must lie in the tile");
      Holder& holder = holders[static_cast<std::size_t>(at.row) * columns + at.col];
      holder = {lane, e, holder.count + 1};
    }
  }
  constexpr double cell_width = 42, cell_height = 24;
  const double left = margin + 44, width = std::max(left + columns * cell_width + margin, 400.0);
  Canvas canvas;
  const double top = draw_caption(canvas, caption, width) + 32;
  canvas.text({left + columns * cell_width / 2, top - 22}, "column", {.anchor = Anchor::middle});
  canvas.text({margin + 10, top + rows * cell_height / 2}, "row", {.anchor = Anchor::middle, .turned = -90});
  draw_index(canvas, {left, top}, cell_width, cell_height, rows, columns);
  for (std::int32_t r = 0; r < rows; ++r) {
    for (std::int32_t c = 0; c < columns; ++c) {
      draw_holder(canvas, {left + c * cell_width, top + r * cell_height, cell_width - 1, cell_height - 1},
                  holders[static_cast<std::size_t>(r) * columns + c]);
    }
  }
  const double bottom = top + rows * cell_height + 18;
  canvas.text({left, bottom}, "a cell says lane:i; four neighbouring lanes share a hue", {.size = 11, .colour = muted});
  return canvas.finish(width, bottom + margin, caption.title);
}

Svg bank_picture(std::int32_t rows, std::int32_t chunks, std::int32_t read_chunk, const ChunkOffset& before,
                 const ChunkOffset& after, const Caption& caption) {
  require(rows >= lanes_per_phase && rows <= 64, "rows", rows, "must be 8 .. 64 to be drawn");
  require(chunks >= 1 && chunks <= 32, "chunks", chunks, "must be 1 .. 32 to be drawn");
  require(read_chunk >= 0 && read_chunk < chunks, "read_chunk", read_chunk, "must be one of the chunks");
  const double grid_width = chunks * BankGrid::cell_width;
  const double width = std::max(2 * margin + 2 * (24 + grid_width) + 36, 520.0);
  Canvas canvas;
  const double top = draw_caption(canvas, caption, width) + 52;
  const BankGrid left{{margin + 24, top}, rows, chunks, read_chunk};
  const BankGrid right{{width / 2 + 24 + 12, top}, rows, chunks, read_chunk};
  draw_banks(canvas, left, "as stored in rows", before);
  draw_banks(canvas, right, "swizzled", after);
  canvas.text({left.origin.x, left.bottom() + 42}, "number: bank group (4 banks, 16 bytes); outlined: what 8 lanes read",
              {.size = 11, .colour = muted});
  return canvas.finish(width, left.bottom() + 42 + margin, caption.title);
}

}  // namespace flashladder::draw
