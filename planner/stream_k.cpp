#include "planner/stream_k.hpp"

#include <algorithm>
#include <vector>

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
      : in(in_), shape(shape_), line(balanced_line(shape_.heads, in_.machine.num_ctas())), load(load_) {
    load.assign(static_cast<std::size_t>(line.lanes), 0.0);
    for (std::int64_t cta = 0; cta < line.lanes * line.copies; ++cta) {
      double& of_lane = load[static_cast<std::size_t>(cta / line.copies)];
      of_lane = std::max<double>(of_lane, plan.cta_cost[static_cast<std::size_t>(cta)]);
    }
    least_load = *std::ranges::min_element(load);
  }
};

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
      std::int32_t end = longest_piece<double>(rest, space, per_item, per_key, in.chunk_align);
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

// The smallest share that is enough, to within the cost of chunk_align / 2 keys, by bisection (core/cuts.hpp).
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
  const ShareSearch search(before + uncut, static_cast<double>(work.line.lanes), in.cost.per_item + in.cost.per_many,
                           dearest_key, in.chunk_align);
  const auto nothing = [](auto&&...) {};
  return search.share(search.smallest([&](std::int32_t c) { return fill(work, search.share(c), nothing, nothing); }));
}

// The line's pieces become the items of one copy. lane_begin[l] becomes the number of items before lane l.
void lay(const Work& work, double share, Plan& plan, PlanPart& part, std::vector<std::int32_t>& lane_begin) {
  std::size_t lane = 0, first_piece = 0;
  lane_begin.assign(static_cast<std::size_t>(work.line.lanes) + 1, 0);
  const auto piece = [&](const Tile& tile, std::int32_t head, Range keys) {
    if (keys.begin == tile.keys.begin) first_piece = part.items.size();
    part.items.push_back({.request = tile.request, .head = head, .rows = tile.rows, .keys = keys, .flags = 0});
    if (keys != tile.keys) plan.chunk_size = std::max(plan.chunk_size, keys.size());
    if (keys.end == tile.keys.end) close_tile(plan, part, first_piece);
  };
  const auto next_lane = [&] { lane_begin[++lane] = static_cast<std::int32_t>(part.items.size()); };
  fill(work, share, piece, next_lane);
  while (lane < static_cast<std::size_t>(work.line.lanes)) next_lane();
}

// CTA lane * copies + copy runs the lane's items for that copy: so CTAs that start together read the heads of one token
// together, which in layout NHD lie side by side. CTAs beyond the last lane have nothing.
void queue_lanes(const Work& work, std::span<const std::int32_t> lane_begin, Plan& plan, PlanPart& part) {
  const std::int32_t copies = part.copies;
  part.queue_indptr.assign(plan.cta_cost.size() + 1, static_cast<std::int32_t>(part.num_work()));
  part.queue.resize(static_cast<std::size_t>(part.num_work()));
  std::size_t cta = 0, at = 0;
  for (std::size_t lane = 0; lane + 1 < lane_begin.size(); ++lane) {
    double cost = 0;
    for (std::int32_t i = lane_begin[lane]; i < lane_begin[lane + 1]; ++i) {
      const WorkItem& item = part.items[static_cast<std::size_t>(i)];
      cost += work.in.cost.item(item.rows.size(), item.keys.size());
    }
    for (std::int32_t copy = 0; copy < copies; ++copy, ++cta) {
      part.queue_indptr[cta] = static_cast<std::int32_t>(at);
      for (std::int32_t i = lane_begin[lane]; i < lane_begin[lane + 1]; ++i) part.queue[at++] = i * copies + copy;
      plan.cta_cost[cta] = static_cast<float>(plan.cta_cost[cta] + cost);
    }
  }
}

}  // namespace

void stream_k(const PlanInputs& in, const PartShape& shape, Plan& plan, PlanPart& part) {
  thread_local std::vector<double> load;
  thread_local std::vector<std::int32_t> lane_begin;
  const Work work(in, shape, plan, load);
  part.copies = work.line.copies;
  lay(work, smallest_share(work), plan, part, lane_begin);
  if (!in.claimed) queue_lanes(work, lane_begin, plan, part);
}

}  // namespace flashladder::planner
