#include "planner/lane_items.hpp"

#include <algorithm>

namespace flashladder::planner {
namespace {

std::vector<std::int32_t>& kept_begins() {
  thread_local std::vector<std::int32_t> begins;  // outlives the call, so that planning again allocates nothing
  return begins;
}

}  // namespace

LaneItems::LaneItems(const BalancedLine& line, Plan& plan, PlanPart& part) : plan_(plan), part_(part), begins_(kept_begins()) {
  part.copies = line.copies;
  begins_.assign(static_cast<std::size_t>(line.lanes) + 1, 0);
}

void LaneItems::piece(const Tile& tile, std::int32_t head, Range keys) {
  if (keys.begin == tile.keys.begin) first_piece_ = part_.items.size();
  part_.items.push_back({.request = tile.request, .head = head, .rows = tile.rows, .keys = keys, .flags = 0});
  if (keys != tile.keys) plan_.chunk_size = std::max(plan_.chunk_size, keys.size());
  if (keys.end == tile.keys.end) close_tile(plan_, part_, first_piece_);
}

// CTA lane * copies + copy runs the lane's items for that copy: so CTAs that start together read the heads of one token
// together, which in layout NHD lie side by side. CTAs beyond the last lane have nothing.
void LaneItems::queue(const CostModel& model) {
  while (lane_ + 1 < begins_.size()) next_lane();
  const std::int32_t copies = part_.copies;
  part_.queue_indptr.assign(plan_.cta_cost.size() + 1, static_cast<std::int32_t>(part_.num_work()));
  part_.queue.resize(static_cast<std::size_t>(part_.num_work()));
  std::size_t cta = 0, at = 0;
  for (std::size_t lane = 0; lane + 1 < begins_.size(); ++lane) {
    double cost = 0;
    for (std::int32_t i = begins_[lane]; i < begins_[lane + 1]; ++i) {
      const WorkItem& item = part_.items[static_cast<std::size_t>(i)];
      cost += model.item(item.rows.size(), item.keys.size());
    }
    for (std::int32_t copy = 0; copy < copies; ++copy, ++cta) {
      part_.queue_indptr[cta] = static_cast<std::int32_t>(at);
      for (std::int32_t i = begins_[lane]; i < begins_[lane + 1]; ++i) part_.queue[at++] = i * copies + copy;
      plan_.cta_cost[cta] = static_cast<float>(plan_.cta_cost[cta] + cost);
    }
  }
}

}  // namespace flashladder::planner
