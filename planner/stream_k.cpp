#include "planner/stream_k.hpp"

#include <cmath>
#include <numeric>

#include "planner/tiles.hpp"

namespace flashladder::planner {
namespace {

// Where the longest piece of rest that costs no more than space ends; -1 if even the shortest one costs more. A piece ends
// with the tile, or at a multiple of align that leaves at least align keys on either side.
std::int32_t longest_piece(Range rest, double space, double per_item, double per_key, std::int32_t align) {
  if (per_item + rest.size() * per_key <= space) return rest.end;
  if (rest.size() / 2 < align) return -1;
  const std::int32_t lowest = align_up(rest.begin + align, align), highest = align_down(rest.end - align, align);
  const double reach = std::min<double>(highest, rest.begin + (space - per_item) / per_key);
  return reach < lowest ? -1 : align_down(static_cast<std::int32_t>(reach), align);
}

// Walks the line and gives each CTA as much as costs no more than share; the last one takes what is left. Calls
// piece(tile, head, keys) for every item and next_cta() between two CTAs. Did every CTA, the last too, keep to its share?
template <class Piece, class NextCta>
bool fill(const PlanInputs& in, double share, Piece&& piece, NextCta&& next_cta) {
  std::int64_t ctas_after = in.machine.num_ctas() - 1;
  double space = share;
  bool kept = true;
  const auto cut_among_ctas = [&](const Tile& tile, std::int32_t head, double per_key) {
    for (Range rest = tile.keys;;) {
      std::int32_t end = longest_piece(rest, space, in.cost.per_item, per_key, in.chunk_align);
      if (ctas_after == 0 || (end < 0 && space == share)) end = rest.end;  // nobody else, or too much for any CTA
      if (end >= 0) {
        piece(tile, head, Range{rest.begin, end});
        space -= in.cost.per_item + (end - rest.begin) * per_key;
        kept = kept && space >= 0;
        if (end == rest.end) return;
        rest.begin = end;
      }
      next_cta();
      --ctas_after;
      space = share;
    }
  };
  for_each_tile(in, [&](const Tile& tile) {
    const double per_key = in.cost.per_key(tile.rows.size()), whole = in.cost.per_item + tile.keys.size() * per_key;
    for (std::int32_t head = 0; head < in.num_kv_heads;) {
      // Heads differ in nothing: those that fit uncut are counted at once.
      const std::int32_t left = in.num_kv_heads - head;
      const std::int32_t uncut = left * whole <= space ? left : static_cast<std::int32_t>(std::max(0.0, space / whole));
      for (std::int32_t h = head; h < head + uncut; ++h) piece(tile, h, tile.keys);
      space -= uncut * whole;
      head += uncut;
      if (head < in.num_kv_heads) cut_among_ctas(tile, head++, per_key);
    }
  });
  return kept;
}

// The smallest share that is enough, to within the cost of chunk_align / 2 keys, by bisection.
// Less than uncut / num_ctas is never enough. What is surely enough: a CTA stops only before keys that can't be cut, fewer
// than 3 * align of them, so it uses more than share - (per_item + 3 * align * per_key); and all CTAs together have at most
// the uncut cost and one more item each. Hence the slack.
double smallest_share(const PlanInputs& in) {
  double uncut = 0, dearest_key = 1;
  for_each_tile(in, [&](const Tile& t) {
    uncut += in.num_kv_heads * in.cost.item(t.rows.size(), t.keys.size());
    dearest_key = std::max(dearest_key, in.cost.per_key(t.rows.size()));
  });
  const double slack = 2 * in.cost.per_item + 3 * dearest_key * in.chunk_align;
  double share = uncut / static_cast<double>(in.machine.num_ctas()) + slack;
  const auto nothing = [](auto&&...) {};
  for (double step = slack / 2; step > in.chunk_align / 2.0; step /= 2) {
    if (fill(in, share - step, nothing, nothing)) share -= step;
  }
  return share;
}

}  // namespace

void stream_k(const PlanInputs& in, Plan& plan) {
  const std::int64_t num_ctas = in.machine.num_ctas();
  plan.queue_indptr.assign(static_cast<std::size_t>(num_ctas) + 1, 0);
  plan.cta_cost.assign(static_cast<std::size_t>(num_ctas), 0.0f);
  std::size_t cta = 0, first_piece = 0;
  double load = 0;
  const auto piece = [&](const Tile& tile, std::int32_t head, Range keys) {
    if (keys.begin == tile.keys.begin) first_piece = plan.items.size();
    plan.items.push_back({.request = tile.request, .kv_head = head, .rows = tile.rows, .keys = keys, .flags = 0});
    if (keys != tile.keys) plan.chunk_size = std::max(plan.chunk_size, keys.size());
    if (keys.end == tile.keys.end) close_tile(plan, first_piece);
    load += in.cost.item(tile.rows.size(), keys.size());
    plan.cta_cost[cta] = static_cast<float>(load);
  };
  const auto next_cta = [&] {
    plan.queue_indptr[++cta] = static_cast<std::int32_t>(plan.items.size());
    load = 0;
  };
  fill(in, smallest_share(in), piece, next_cta);

  std::fill(plan.queue_indptr.begin() + static_cast<std::ptrdiff_t>(cta) + 1, plan.queue_indptr.end(),
            static_cast<std::int32_t>(plan.items.size()));
  plan.queue.resize(plan.items.size());
  std::iota(plan.queue.begin(), plan.queue.end(), 0);
}

}  // namespace flashladder::planner
