// The tiles of a batch, and how pieces of a tile's keys become work items.
//
// A tile is a range of packed query rows of one request against the hull of the keys that they see. It is the same for
// every KV head, so chunk searches walk tiles and multiply by num_kv_heads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/plan.hpp"
#include "core/visibility.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::planner {

struct Tile {
  std::int32_t request;
  Range rows;  // packed query rows, never empty
  Range keys;  // may be empty: the tile is still one item, which writes o = 0 and lse = -inf
};

// visit(tile) for every tile, in order of request and rows. A request without queries has none.
template <class Visit>
void for_each_tile(const PlanInputs& in, Visit&& visit) {
  const AttentionParams visibility{.mask = in.mask, .window_left = in.window_left};
  const std::int32_t group = in.group_size(), height = in.tile_rows();
  for (std::int32_t b = 0; b < in.batch(); ++b) {
    const std::int32_t qo_len = in.qo_len(b), packed = qo_len * group;
    for (std::int64_t begin = 0; begin < packed; begin += height) {
      const std::int64_t end = std::min<std::int64_t>(begin + height, packed);
      const Range rows{static_cast<std::int32_t>(begin), static_cast<std::int32_t>(end)};
      const Range queries{rows.begin / group, (rows.end - 1) / group + 1};
      visit(Tile{b, rows, visible_keys(visibility, qo_len, in.kv_lens[b], queries)});
    }
  }
}

// x >= 0. Mostly align is a power of two, and a division would cost ten times the mask: plans are made between two kernels.
constexpr std::int32_t align_down(std::int32_t x, std::int32_t align) {
  return (align & (align - 1)) == 0 ? x & -align : x - x % align;
}
constexpr std::int32_t align_up(std::int32_t x, std::int32_t align) {
  const std::int32_t down = align_down(x, align);
  return down == x ? x : down + align;
}

// The items from first_piece on are one tile of one KV head, in key order. Sets their flags; several pieces also get
// partial slots, in key order, and the merge that joins them.
inline void close_tile(Plan& plan, std::size_t first_piece) {
  WorkItem& front = plan.items[first_piece];
  const std::size_t pieces = plan.items.size() - first_piece;
  front.flags |= WorkItem::first;
  plan.items.back().flags |= WorkItem::last;
  if (pieces == 1) return;
  plan.merges.push_back({front.request, front.kv_head, front.rows, plan.partial_rows, static_cast<std::int32_t>(pieces)});
  for (std::size_t i = first_piece; i < plan.items.size(); ++i) {
    plan.items[i].partial_slot = plan.partial_rows;
    plan.partial_rows += front.rows.size();
  }
}

}  // namespace flashladder::planner
