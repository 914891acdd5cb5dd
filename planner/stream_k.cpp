#include "planner/stream_k.hpp"

#include <algorithm>
#include <vector>

#include "planner/lane_items.hpp"

namespace flashladder::planner {
namespace {

// What the lanes have from the parts before, and the work of this part. The vectors outlive the call, so that planning again
// allocates nothing.
struct Work {
  const PlanInputs& in;
  const PartShape& shape;
  BalancedLine line;
  std::vector<double>& load;  // [lanes]  the largest of the copies' CTAs
  double least_load = 0;

  Work(const PlanInputs& in_, const PartShape& shape_, const Plan& plan, std::vector<double>& load_)
      : in(in_), shape(shape_), line(line_of(in_, shape_)), load(load_) {
    load.assign(static_cast<std::size_t>(line.lanes), 0.0);
    for (std::int64_t cta = 0; cta < line.lanes * line.copies; ++cta) {
      double& of_lane = load[static_cast<std::size_t>(cta / line.copies)];
      of_lane = std::max<double>(of_lane, plan.cta_cost[static_cast<std::size_t>(cta)]);
    }
    least_load = *std::ranges::min_element(load);
  }
};

// Where the longest piece of rest ends that costs no more than space; -1 if even the shortest one costs more. A piece ends
// with the tile, or at a multiple of align that leaves at least align keys on either side.
std::int32_t longest_piece(Range rest, double space, double per_item, double per_key, std::int32_t align) {
  if (per_item + rest.size() * per_key <= space) return rest.end;
  if (rest.size() / 2 < align) return -1;
  const std::int32_t lowest = align_up(rest.begin + align, align), highest = align_down(rest.end - align, align);
  const double reach = std::min<double>(rest.begin + (space - per_item) / per_key, highest);
  return reach < lowest ? -1 : align_down(static_cast<std::int32_t>(reach), align);
}

// Walks the line and gives each lane as much as brings its cost to no more than share; the last one takes what is left.
// Calls piece(tile, head, keys) for every item and next_lane() between two lanes. Did every lane that got something, the
// last too, keep to its share?
template <class Piece, class NextLane>
bool fill(const Work& work, double share, Piece&& piece, NextLane&& next_lane) {
  const PlanInputs& in = work.in;
  const BalancedLine& line = work.line;
  const double most_space = share - work.least_load;
  std::int64_t lane = 0;
  double space = share - work.load[0];
  bool kept = true, fresh = true;  // fresh: the lane has nothing yet
  const auto cut_among_lanes = [&](const Tile& tile, std::int32_t head, double per_key) {
    const bool many = tile.keys.size() * per_key > in.cost.few_partials * share;
    const double per_item = in.cost.per_item + (many ? in.cost.per_many : 0);
    for (Range rest = tile.keys;;) {
      std::int32_t end = longest_piece(rest, space, per_item, per_key, in.chunk_align);
      const bool too_much_for_any = end < 0 && fresh && space == most_space;
      if (lane == line.lanes - 1 || too_much_for_any) end = rest.end;
      if (end >= 0) {
        piece(tile, head, Range{rest.begin, end});
        space -= per_item + (end - rest.begin) * per_key;
        fresh = false;
        kept = kept && space >= 0;
        if (end == rest.end) return;
        rest.begin = end;
      }
      next_lane();
      space = share - work.load[static_cast<std::size_t>(++lane)];
      fresh = true;
    }
  };
  for_each_tile(in, work.shape, [&](const Tile& tile) {
    const double per_key = in.cost.per_key(tile.rows.size()), whole = in.cost.per_item + tile.keys.size() * per_key;
    for (std::int32_t head = 0; head < line.heads;) {
      // Heads differ in nothing: those that fit uncut are counted at once.
      const std::int32_t left = line.heads - head;
      const std::int32_t uncut = left * whole <= space ? left : static_cast<std::int32_t>(std::max(0.0, space / whole));
      for (std::int32_t h = head; h < head + uncut; ++h) piece(tile, h, tile.keys);
      space -= uncut * whole;
      fresh = fresh && uncut == 0;
      head += uncut;
      if (head < line.heads) cut_among_lanes(tile, head++, per_key);
    }
  });
  return kept;
}

// The smallest share that is enough, to within the cost of chunk_align / 2 keys, by bisection.
// Less than mean, what the lanes have already and the uncut tiles by the number of lanes, is never enough. What is surely
// enough: a lane stops only before keys that can't be cut, fewer than 3 * align of them, so with what it had before it has
// more than share - (per_item + 3 * align * per_key); and all lanes together have at most the uncut cost and one more item
// each. Hence the slack.
double smallest_share(const Work& work) {
  const PlanInputs& in = work.in;
  double uncut = 0, before = 0, dearest_key = 1;
  for_each_tile(in, work.shape, [&](const Tile& t) {
    uncut += work.line.heads * in.cost.item(t.rows.size(), t.keys.size());
    dearest_key = std::max(dearest_key, in.cost.per_key(t.rows.size()));
  });
  for (const double load : work.load) before += load;
  const double slack = 2 * (in.cost.per_item + in.cost.per_many) + 3 * dearest_key * in.chunk_align;
  const auto nothing = [](auto&&...) {};
  double share = (before + uncut) / work.line.lanes + slack;
  for (double step = slack / 2; step > in.chunk_align / 2.0; step /= 2) {
    if (fill(work, share - step, nothing, nothing)) share -= step;
  }
  return share;
}

}  // namespace

void stream_k(const PlanInputs& in, const PartShape& shape, Plan& plan, PlanPart& part) {
  thread_local std::vector<double> load;
  const Work work(in, shape, plan, load);
  LaneItems items(work.line, plan, part);
  fill(work, smallest_share(work), [&](const Tile& tile, std::int32_t head, Range keys) { items.piece(tile, head, keys); },
       [&] { items.next_lane(); });
  if (!in.claimed) items.queue(in.cost);
}

}  // namespace flashladder::planner
