// Policy balanced: all tiles in one line of cost, cut into one contiguous stretch for each CTA (stream-K, arXiv:2301.03598).
//
// Where the CTAs divide well among the KV heads (at most one in twenty is left over), the line is that of one head, cut into
// lanes, and every head has the same: CTA lane * num_kv_heads + head. CTAs that start together then read all heads of a token
// together, in layout NHD one stretch of memory; and the cuts are looked for once, not once a head.
#pragma once

#include "core/plan.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::planner {

// Appends the items and merges, and fills chunk_size (the largest piece of a cut tile), the queues and cta_cost.
//   - A CTA's stretch is contiguous, so at most two of its items are parts of a tile: its first and its last.
//   - Cuts are multiples of chunk_align with at least chunk_align keys on either side. Where even shares would be smaller
//     than that, the last CTAs stay idle.
//   - makespan <= mean of the CTAs that have a lane + 2 * per_item + 3 * chunk_align * per_key: the proof is at smallest_share.
void stream_k(const PlanInputs& inputs, Plan& plan);

}  // namespace flashladder::planner
