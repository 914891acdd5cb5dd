// Policy balanced: all tiles in one line of cost, cut into one contiguous stretch for each CTA (stream-K, arXiv:2301.03598).
//
// Where the CTAs divide well among the heads (at most one in twenty is left over), the line is that of one head, cut into
// lanes, and every head has the same: CTA lane * heads + head. CTAs that start together then read all heads of a token
// together, in layout NHD one stretch of memory; and the cuts are looked for once, not once a head.
//
// A second part has a line of its own over the same CTAs. There a CTA's stretch is as much shorter as its load of the first
// part is larger, so that the sums are even.
#pragma once

#include "core/plan.hpp"
#include "planner/tiles.hpp"

namespace flashladder::planner {

// Appends the items and merges of a part, fills its queues (but for a claimed part), raises plan.chunk_size to the largest
// piece of a cut tile and adds to plan.cta_cost.
//   - A CTA's stretch is contiguous, so at most two of its items are parts of a tile: its first and its last.
//   - Cuts are multiples of chunk_align with at least chunk_align keys on either side. Where even shares would be smaller
//     than that, the last CTAs stay idle.
//   - makespan <= mean of the CTAs that have a lane + 2 * (per_item + per_many) + 3 * chunk_align * per_key, or what it was
//     before: the proof is at smallest_share.
void stream_k(const PlanInputs& inputs, const PartShape& shape, Plan& plan, PlanPart& part);

}  // namespace flashladder::planner
