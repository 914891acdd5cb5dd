// The bound. Let lane l begin at p, and x = even_position(l) (core/cuts.hpp), both in the line's cost uncut; a is chunk_align,
// k what a key costs there, and a cut that is rounded to a multiple of a moves by no more than (a + 1) / 2 keys. There are
// three cases:
//   at a cut             p >= x - (a + 1) / 2 * k
//   at a unit's begin    p >  x - per_item - 3 / 2 * a * k: the rounded cut had fewer than a keys before it
//   behind a unit        x <= p < x + 3 / 2 * a * k: the rounded cut had fewer than a keys behind it
// So the next lane begins before x + mean + 3 / 2 * a * k in every case. A lane that begins at a cut pays per_item once more
// for the rest of the tile, and has less than mean + per_item + (2 * a + 1 / 2) * k; one that begins at a unit's begin has less
// than mean + per_item + 3 * a * k, which is the larger. Lanes of whole units have no more than mean + per_item + a.
#include "planner/even_cuts.hpp"

#include <algorithm>

#include "planner/lane_items.hpp"

namespace flashladder::planner {
namespace {

// What the whole line costs uncut.
struct LineCost {
  double total = 0, dearest = 0;  // dearest: of a unit
  std::int32_t units = 0;

  LineCost(const PlanInputs& in, const PartShape& shape, const BalancedLine& line) {
    for_each_tile(in, shape, [&](const Tile& t) {
      const double cost = in.cost.item(t.rows.size(), t.keys.size());
      total += line.heads * cost, dearest = std::max(dearest, cost), units += line.heads;
    });
  }
};

void lay_whole(const PlanInputs& in, const PartShape& shape, const BalancedLine& line, std::int32_t each, LaneItems& items) {
  std::int32_t of_lane = 0;  // units
  for_each_tile(in, shape, [&](const Tile& tile) {
    for (std::int32_t head = 0; head < line.heads; ++head) {
      if (of_lane++ == each) items.next_lane(), of_lane = 1;
      items.piece(tile, head, tile.keys);
    }
  });
}

void lay_cut(const PlanInputs& in, const PartShape& shape, const BalancedLine& line, double total, LaneItems& items) {
  std::int32_t lane = 1;  // the next to begin
  double begin_cost = 0, position = even_position(total, lane, line.lanes);
  const auto cut = [&](const Tile& tile, std::int32_t head, double end_cost) {
    Range rest = tile.keys;
    std::int32_t behind = 0;  // lanes that begin where the unit ends
    for (; lane < line.lanes && position < end_cost; position = even_position(total, ++lane, line.lanes)) {
      const std::int32_t key = even_cut<double>(position - begin_cost, tile.keys, in.cost.per_item,
                                                in.cost.per_key(tile.rows.size()), in.chunk_align);
      if (key > rest.begin && key == tile.keys.end) {
        ++behind;
        continue;
      }
      if (key > rest.begin) items.piece(tile, head, {rest.begin, key});
      rest.begin = key;
      items.next_lane();
    }
    items.piece(tile, head, rest);
    for (; behind > 0; --behind) items.next_lane();
  };
  for_each_tile(in, shape, [&](const Tile& tile) {
    const double whole = in.cost.item(tile.rows.size(), tile.keys.size());
    for (std::int32_t head = 0; head < line.heads; ++head, begin_cost += whole) cut(tile, head, begin_cost + whole);
  });
}

}  // namespace

void even_cuts(const PlanInputs& in, const PartShape& shape, Plan& plan, PlanPart& part) {
  const BalancedLine line = line_of(in, shape);
  const LineCost cost(in, shape, line);
  const std::int32_t each =
      whole_units(cost.total, cost.dearest, cost.units, line.lanes, in.cost.per_item, in.chunk_align);
  LaneItems items(line, plan, part);
  if (each > 0) lay_whole(in, shape, line, each, items);
  else lay_cut(in, shape, line, cost.total, items);
  if (!in.claimed) items.queue(in.cost);
}

}  // namespace flashladder::planner
