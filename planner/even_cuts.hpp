// Policy even: the line of policy balanced (stream_k.hpp), cut where equal shares of its cost uncut end. Nobody asks how far
// the lanes before have come, so that a GPU finds all cuts at once: a plan made on the device is cut so (gpu/plan/even_plan.hpp).
// Where lanes of equally many whole tiles are as level, as in a batch of equal lengths, nothing is cut.
#pragma once

#include "core/plan.hpp"
#include "planner/tiles.hpp"

namespace flashladder::planner {

// Appends the items and merges of a part, fills its queues (but for a claimed part), raises plan.chunk_size to the largest
// piece of a cut tile and adds to plan.cta_cost. A second part is cut among all CTAs as the first one was, whatever they have
// of that: each is even by itself.
//   - A CTA's stretch is contiguous, so at most two of its items are parts of a tile: its first and its last.
//   - Cuts are multiples of chunk_align with at least chunk_align keys on either side. Where two lanes would begin at the same
//     one, the first of them has nothing.
//   - A lane has less than mean + per_item + 3 * chunk_align * per_key of a part, mean: the uncut cost by the number of lanes.
//     The proof is in even_cuts.cpp.
void even_cuts(const PlanInputs& inputs, const PartShape& shape, Plan& plan, PlanPart& part);

}  // namespace flashladder::planner
