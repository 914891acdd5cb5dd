// The most that any batch within limits can take of a plan: what a captured graph, or a workspace bought once, must hold.
#pragma once

#include "api/attention_config.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::api {

// inputs: heads, page size, tile, policy and machine; lengths are not looked at. limits: valid ones; without max_nnz_qo each
// request has one query.
//
// Let g be the query heads that a tile packs (the group, or 1), q the query tile (packed rows), C the CTAs and N = max_pages
// page_size the keys. A request of n queries has ceil(n g / q) tiles for each head of packed rows. Let t be the most tiles
// that one request can have (all heads; n <= max_qo_len), and T the most of a whole batch: at most t for each request that
// has queries, and k requests with n queries in all have at most k + floor((n g - k) / q) tiles a head, because ceil(x / q)
// = 1 + floor((x - 1) / q); that grows with k, and k is at most max_batch and at most max_nnz_qo.
// A tile that is cut k times gives k + 1 items, one merge and (k + 1) rows partial rows. With at most K cuts in all, hence
// at most min(T, K) cut tiles:
//   items <= T + K      merges <= min(T, K)      partial_rows <= (K + min(T, K)) q
// Where requests of one query are a part of their own (PlanInputs::decode_queues), their tiles are counted besides, and cuts
// between their queues, whatever the policy.
// K by policy:
//   none      0
//   balanced  C - 1: a cut is where a CTA's share ends, and the last CTA takes all that is left (planner/stream_k.cpp). Also
//             t (N / chunk_align - 1): every piece of a cut tile has chunk_align keys or more
//   even      as balanced: a cut is where a CTA's stretch begins, and the first one's begins with a tile
//   fixed     t floor((N - 1) / chunk): n keys make ceil(n / chunk) = 1 + floor((n - 1) / chunk) pieces, and a sum of floors
//             is at most the floor of the sum. A window only takes cuts away
//   target    as fixed, with the smallest tier
//   count     C - 1: it cuts only if all the items fit the grid
// A custom mask has at most l N pairs of a query and a key, with l queries of a request at most (max_nnz_qo where no
// max_qo_len is given), and so many words: core/mask_bits.hpp.
planner::CaptureLimits most_work(const planner::PlanInputs& inputs, const AttentionLimits& limits);

}  // namespace flashladder::api
