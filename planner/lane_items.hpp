// A line of tiles laid out among lanes, piece by piece: policies balanced and even decide where a lane begins, and the rest is
// the same.
#pragma once

#include <cstddef>
#include <vector>

#include "core/plan.hpp"
#include "planner/tiles.hpp"

namespace flashladder::planner {

inline BalancedLine line_of(const PlanInputs& in, const PartShape& shape) {
  return balanced_line(shape.heads, static_cast<std::int32_t>(in.machine.num_ctas()));
}

// The pieces of the line in its order become the items and merges of one copy, and plan.chunk_size at least the largest piece
// of a cut tile. Lanes that nobody has begun have nothing.
class LaneItems {
 public:
  LaneItems(const BalancedLine& line, Plan& plan, PlanPart& part);

  void piece(const Tile& tile, std::int32_t head, Range keys);
  void next_lane() { begins_[++lane_] = static_cast<std::int32_t>(part_.items.size()); }
  // Fills the queues and adds to plan.cta_cost, when all pieces are laid.
  void queue(const CostModel& cost);

 private:
  Plan& plan_;
  PlanPart& part_;
  std::vector<std::int32_t>& begins_;  // [lanes + 1] the number of items before a lane
  std::size_t lane_ = 0, first_piece_ = 0;
};

}  // namespace flashladder::planner
