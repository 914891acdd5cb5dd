// Chapter 11's tile: 16 packed rows of one request, drawn key by key.
#pragma once

#include <string>
#include <vector>

#include "ladder/cases/drawn/draw_case.hpp"
#include "walkthroughs/narrate.hpp"
#include "walkthroughs/prefill_warp.hpp"

namespace flashladder::walkthroughs {

// One request, causal, 2 query heads on 1 KV head, head_dim 64. The tile of the chapter: 16 packed rows.
inline ladder::Case tile_case(std::int32_t qo_len, std::int32_t kv_len, std::int32_t window_left = -1) {
  return ladder::draw_case({.name = "tile", .seed = 11, .qo_lens = {qo_len}, .kv_lens = {kv_len},
                            .params = {.num_qo_heads = 2, .num_kv_heads = 1, .head_dim_qk = 64, .head_dim_vo = 64,
                                       .sm_scale = 0.125f, .mask = MaskMode::causal, .window_left = window_left},
                            .page_size = 4, .dtype = DType::f16});
}
inline constexpr int tile_keys = 16;  // of the chapter's tile; P2, P3 and P4 have 64

struct Tile {
  ladder::Case c;
  AttentionProblem problem;
  WorkItem item;
  ItemRows rows{problem, item, 2};

  Tile(std::int32_t qo_len, std::int32_t kv_len, std::int32_t window_left = -1)
      : c(tile_case(qo_len, kv_len, window_left)), problem(c.problem()) {
    item.rows = {0, 2 * qo_len};
    item.keys = visible_keys(problem.params, qo_len, kv_len, Range{0, qo_len});
  }
};

// A line for two rows, a column for each key.
inline std::string drawn(const Tile& tile) {
  const Range keys = tile.item.keys;
  std::string ruler(13 + keys.begin, ' '), out;
  for (int first = keys.begin; first < keys.end; first += tile_keys) {
    ruler += text("%-*s", tile_keys + 1, text(" tile %d", (first - keys.begin) / tile_keys).c_str());
  }
  out = ruler.substr(0, ruler.find_last_not_of(' ') + 1) + "\n";
  for (int r = 0; r < warp_rows; r += 2) {
    out += text("rows %2d, %2d  ", r, r + 1);
    for (int key = 0; key < keys.end; ++key) {
      if (key >= keys.begin && (key - keys.begin) % tile_keys == 0) out += '|';
      out += tile.rows.seen(r).contains(key) ? 'x' : '.';
    }
    out += "|\n";
  }
  return out;
}

inline std::vector<std::string> kinds(const Tile& tile) {
  const SeenTiles tiles = seen_tiles(tile.rows, 0, warp_rows - 1, tile_keys);
  std::vector<std::string> out;
  for (int t = 0; t * tile_keys < tile.item.keys.size(); ++t) {
    out.push_back(tiles.all.contains(t) ? "inner" : tiles.some.contains(t) ? "edge" : "not seen");
  }
  return out;
}

}  // namespace flashladder::walkthroughs
