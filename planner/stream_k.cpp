#include "planner/stream_k.hpp"

#include <cmath>

#include "planner/tiles.hpp"

namespace flashladder::planner {
namespace {

// The line that is cut: the tiles of `heads` KV heads, for `lanes` CTAs. It is laid `copies` times, heads * copies = all.
struct Line {
  std::int32_t heads, copies;
  std::int64_t lanes;
};

// One head's line for every head, unless that would leave more than one CTA in twenty without work.
Line choose_line(const PlanInputs& in) {
  const std::int64_t ctas = in.machine.num_ctas(), lanes = ctas / in.num_kv_heads;
  if (20 * lanes * in.num_kv_heads >= 19 * ctas) return {1, in.num_kv_heads, lanes};
  return {in.num_kv_heads, 1, ctas};
}

// Where the longest piece of rest that costs no more than space ends; -1 if even the shortest one costs more. A piece ends
// with the tile, or at a multiple of align that leaves at least align keys on either side.
std::int32_t longest_piece(Range rest, double space, double per_item, double per_key, std::int32_t align) {
  if (per_item + rest.size() * per_key <= space) return rest.end;
  if (rest.size() / 2 < align) return -1;
  const std::int32_t lowest = align_up(rest.begin + align, align), highest = align_down(rest.end - align, align);
  const double keys = per_key == 1 ? space - per_item : (space - per_item) / per_key;
  const double reach = std::min<double>(highest, rest.begin + keys);
  return reach < lowest ? -1 : align_down(static_cast<std::int32_t>(reach), align);
}

// Walks the line and gives each lane as much as costs no more than share; the last one takes what is left. Calls
// piece(tile, head, keys) for every item and next_lane() between two lanes. Did every lane, the last too, keep to its share?
template <class Piece, class NextLane>
bool fill(const PlanInputs& in, const Line& line, double share, Piece&& piece, NextLane&& next_lane) {
  std::int64_t lanes_after = line.lanes - 1;
  double space = share;
  bool kept = true;
  const auto cut_among_lanes = [&](const Tile& tile, std::int32_t head, double per_key) {
    const bool many = tile.keys.size() * per_key > in.cost.few_partials * share;
    const double per_item = in.cost.per_item + (many ? in.cost.per_many : 0);
    for (Range rest = tile.keys;;) {
      std::int32_t end = longest_piece(rest, space, per_item, per_key, in.chunk_align);
      if (lanes_after == 0 || (end < 0 && space == share)) end = rest.end;  // nobody else, or too much for any lane
      if (end >= 0) {
        piece(tile, head, Range{rest.begin, end});
        space -= per_item + (end - rest.begin) * per_key;
        kept = kept && space >= 0;
        if (end == rest.end) return;
        rest.begin = end;
      }
      next_lane();
      --lanes_after;
      space = share;
    }
  };
  for_each_tile(in, [&](const Tile& tile) {
    const double per_key = in.cost.per_key(tile.rows.size()), whole = in.cost.per_item + tile.keys.size() * per_key;
    for (std::int32_t head = 0; head < line.heads;) {
      // Heads differ in nothing: those that fit uncut are counted at once.
      const std::int32_t left = line.heads - head;
      const std::int32_t uncut = left * whole <= space ? left : static_cast<std::int32_t>(std::max(0.0, space / whole));
      for (std::int32_t h = head; h < head + uncut; ++h) piece(tile, h, tile.keys);
      space -= uncut * whole;
      head += uncut;
      if (head < line.heads) cut_among_lanes(tile, head++, per_key);
    }
  });
  return kept;
}

// The smallest share that is enough, to within the cost of chunk_align / 2 keys, by bisection.
// Less than uncut / lanes is never enough. What is surely enough: a lane stops only before keys that can't be cut, fewer
// than 3 * align of them, so it uses more than share - (per_item + 3 * align * per_key); and all lanes together have at most
// the uncut cost and one more item each. Hence the slack.
double smallest_share(const PlanInputs& in, const Line& line) {
  double uncut = 0, dearest_key = 1;
  for_each_tile(in, [&](const Tile& t) {
    uncut += line.heads * in.cost.item(t.rows.size(), t.keys.size());
    dearest_key = std::max(dearest_key, in.cost.per_key(t.rows.size()));
  });
  const double slack = 2 * (in.cost.per_item + in.cost.per_many) + 3 * dearest_key * in.chunk_align;
  double share = uncut / static_cast<double>(line.lanes) + slack;
  const auto nothing = [](auto&&...) {};
  for (double step = slack / 2; step > in.chunk_align / 2.0; step /= 2) {
    if (fill(in, line, share - step, nothing, nothing)) share -= step;
  }
  return share;
}

// The line's pieces become items, tile by tile: first one copy's heads, then the other copies. lane_begin[l] becomes the
// number of pieces before lane l, lane_cost[l] what they cost.
void lay(const PlanInputs& in, const Line& line, double share, Plan& plan) {
  std::size_t lane = 0, first_piece = 0;
  std::int32_t pieces = 0;
  double load = 0;
  const auto copy_tile = [&](std::size_t last_piece) {
    close_tile(plan, first_piece);
    for (std::int32_t copy = 1; copy < line.copies; ++copy) {
      const std::size_t copied = plan.items.size();
      for (std::size_t i = first_piece; i < last_piece; ++i) {
        WorkItem item = plan.items[i];
        item.kv_head = copy, item.flags = 0, item.partial_slot = -1;
        plan.items.push_back(item);
      }
      close_tile(plan, copied);
    }
  };
  const auto piece = [&](const Tile& tile, std::int32_t head, Range keys) {
    if (keys.begin == tile.keys.begin) first_piece = plan.items.size();
    plan.items.push_back({.request = tile.request, .kv_head = head, .rows = tile.rows, .keys = keys, .flags = 0});
    if (keys != tile.keys) plan.chunk_size = std::max(plan.chunk_size, keys.size());
    if (keys.end == tile.keys.end) copy_tile(plan.items.size());
    ++pieces;
    load += in.cost.item(tile.rows.size(), keys.size());
    plan.cta_cost[lane] = static_cast<float>(load);
  };
  const auto next_lane = [&] {
    plan.queue_indptr[++lane] = pieces;
    load = 0;
  };
  fill(in, line, share, piece, next_lane);
  while (lane < static_cast<std::size_t>(line.lanes)) plan.queue_indptr[++lane] = pieces;
}

// CTA lane * copies + copy runs the lane's pieces of that copy: so CTAs that start together read the heads of one token
// together, which in layout NHD lie side by side.
void queue_copies(const Line& line, Plan& plan) {
  const std::int32_t copies = line.copies;
  plan.queue.resize(plan.items.size());
  std::int32_t lane = 0, piece = 0;
  for (std::size_t tile = 0; tile < plan.items.size();) {  // tile: its first item
    std::int32_t n = 1;                                    // pieces of the tile, in each copy
    while (!(plan.items[tile + n - 1].flags & WorkItem::last)) ++n;
    for (std::int32_t i = 0; i < n; ++i, ++piece) {
      while (piece >= plan.queue_indptr[lane + 1]) ++lane;
      const std::int32_t begin = plan.queue_indptr[lane], size = plan.queue_indptr[lane + 1] - begin;
      for (std::int32_t copy = 0; copy < copies; ++copy) {
        plan.queue[begin * copies + copy * size + piece - begin] = static_cast<std::int32_t>(tile) + copy * n + i;
      }
    }
    tile += static_cast<std::size_t>(n) * copies;
  }
  // From lanes to CTAs, in place and from the back. CTAs beyond the last lane have nothing.
  std::int32_t end = plan.queue_indptr[line.lanes];
  const std::int64_t used = line.lanes * copies;
  std::fill(plan.queue_indptr.begin() + used, plan.queue_indptr.end(), end * copies);
  for (std::int64_t l = line.lanes - 1; l >= 0; --l) {
    const std::int32_t begin = plan.queue_indptr[l], size = end - begin;
    const float cost = plan.cta_cost[l];
    for (std::int32_t copy = copies - 1; copy >= 0; --copy) {
      plan.queue_indptr[l * copies + copy] = begin * copies + copy * size;
      plan.cta_cost[l * copies + copy] = cost;
    }
    end = begin;
  }
}

}  // namespace

void stream_k(const PlanInputs& in, Plan& plan) {
  const Line line = choose_line(in);
  const std::int64_t num_ctas = in.machine.num_ctas();
  plan.queue_indptr.assign(static_cast<std::size_t>(num_ctas) + 1, 0);
  plan.cta_cost.assign(static_cast<std::size_t>(num_ctas), 0.0f);
  lay(in, line, smallest_share(in, line), plan);
  queue_copies(line, plan);
}

}  // namespace flashladder::planner
