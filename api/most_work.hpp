// The most that any batch within limits can take of a plan: what a captured graph, or a workspace bought once, must hold.
#pragma once

#include "api/decode_config.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::api {

// inputs: heads, page size, tile, policy and machine; lengths are not looked at. InputError if the limits are no sizes.
//
// Let a request have t tiles (KV heads times tiles of its group), a batch at most T = max_batch t, and let C be the CTAs and
// N = max_pages page_size the keys. A tile that is cut k times gives k + 1 items, one merge and (k + 1) rows partial rows.
// With at most K cuts in all, hence at most min(T, K) cut tiles:
//   items <= T + K      merges <= min(T, K)      partial_rows <= (K + min(T, K)) query_tile
// K by policy:
//   none      0
//   balanced  C - 1: a cut is where a CTA's share ends, and the last CTA takes all that is left (planner/stream_k.cpp). Also
//             t (N / chunk_align - 1): every piece of a cut tile has chunk_align keys or more
//   fixed     t floor((N - 1) / chunk): n keys make ceil(n / chunk) = 1 + floor((n - 1) / chunk) pieces, and a sum of floors
//             is at most the floor of the sum. A window only takes cuts away
//   target    as fixed, with the smallest tier
//   count     C - 1: it cuts only if all the items fit the grid
planner::CaptureLimits most_work(const planner::PlanInputs& inputs, const DecodeLimits& limits);

}  // namespace flashladder::api
