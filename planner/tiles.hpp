// The parts of a plan, the tiles of a part, and how pieces of a tile's keys become work items.
//
// A part takes some of the requests and has tiles of one height. A tile is a range of packed query rows of one request
// against the hull of the keys that they see. It is the same for every head, so chunk searches walk the tiles of one head
// and multiply by the number of heads.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/cuts.hpp"
#include "core/plan.hpp"
#include "core/visibility.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::planner {

struct PartShape {
  enum class Requests : std::uint8_t { all, of_one_query, of_more };  // which requests are the part's

  Requests requests = Requests::all;
  std::int32_t query_tile = 1, pack = 1;  // packed rows in a tile, query heads whose rows are packed
  std::int32_t heads = 1;                 // num_qo_heads / pack

  bool takes(std::int32_t qo_len) const {
    return requests == Requests::all || (qo_len == 1) == (requests == Requests::of_one_query);
  }
};

// How many parts there are depends on the options alone: with decode_tile two, either of which may be empty.
class PartShapes {
 public:
  explicit PartShapes(const PlanInputs& in)
      : shapes_{PartShape{.query_tile = in.tile_rows(), .pack = in.packed_heads(),
                          .heads = in.num_heads(in.packed_heads())}} {
    if (in.decode_tile == 0) return;
    shapes_[count_++] = shapes_[0];
    shapes_[0] = {PartShape::Requests::of_one_query, in.decode_tile, in.group_size(), in.num_kv_heads};
    shapes_[1].requests = PartShape::Requests::of_more;
  }
  std::size_t size() const { return count_; }
  const PartShape* begin() const { return shapes_.data(); }
  const PartShape* end() const { return begin() + count_; }

 private:
  std::array<PartShape, 2> shapes_;
  std::size_t count_ = 1;
};

struct Tile {
  std::int32_t request;
  Range rows;  // packed query rows, never empty
  Range keys;  // may be empty: the tile is still one item, which writes o = 0 and lse = -inf
};

// visit(tile) for every tile of one head, in order of request and rows. A request without queries has none.
template <class Visit>
void for_each_tile(const PlanInputs& in, const PartShape& part, Visit&& visit) {
  const AttentionParams visibility{.mask = in.mask, .window_left = in.window_left};
  const std::int32_t pack = part.pack, height = part.query_tile;
  for (std::int32_t b = 0; b < in.batch(); ++b) {
    const std::int32_t qo_len = in.qo_len(b), packed = qo_len * pack;
    if (!part.takes(qo_len)) continue;
    for (std::int64_t begin = 0; begin < packed; begin += height) {
      const std::int64_t end = std::min<std::int64_t>(begin + height, packed);
      const Range rows{static_cast<std::int32_t>(begin), static_cast<std::int32_t>(end)};
      const Range queries{rows.begin / pack, (rows.end - 1) / pack + 1};
      visit(Tile{b, rows, visible_keys(visibility, qo_len, in.kv_lens[b], queries)});
    }
  }
}

// The items of the part from first_piece on are one tile of one head, in key order. Sets their flags; several pieces also
// get partial slots behind those that the plan has so far, in key order, and the merge that joins them.
inline void close_tile(const Plan& plan, PlanPart& part, std::size_t first_piece) {
  const auto pieces = std::span(part.items).subspan(first_piece);
  pieces.front().flags |= WorkItem::first;
  pieces.back().flags |= WorkItem::last;
  if (pieces.size() == 1) return;
  const WorkItem& front = pieces.front();
  const auto merge = static_cast<std::int32_t>(part.merges.size());
  part.merges.push_back({front.request, front.head, front.rows, plan.partial_rows + part.partial_rows,
                         static_cast<std::int32_t>(pieces.size())});
  for (WorkItem& item : pieces) {
    item.merge = merge;
    item.partial_slot = plan.partial_rows + part.partial_rows;
    part.partial_rows += item.rows.size();
  }
}

}  // namespace flashladder::planner
