// C4's inner loop: C1's steps with one query row in each SIMD lane. Must equal c3::online_softmax.
//
// S^T = K Q^T and O^T += V^T P^T: one element of K or V at a time multiplies the lanes of a panel of rows. So K and V are
// used as they lie, neither transposed nor packed, and a row's maximum, sum and exp2 never cross lanes. Keys that no row of
// a panel sees are skipped, so a causal tile costs its triangle.
// (Sums of outer products in registers: the micro-kernel of Goto and van de Geijn, ACM TOMS 34(3), 2008.)
#pragma once

#include "core/attention_problem.hpp"
#include "reference/key_stream.hpp"
#include "reference/query_tile.hpp"

namespace flashladder::reference::c4 {

// What a worker keeps from item to item. N: lanes of a panel.
struct LaneBuffers {
  KeyStream::Buffers keys;
  Matrix<float> q, o;  // [panels * head_dim, N]  Q^T and O^T
  Matrix<float> s;     // [keys of a tile, N]     S^T, then P^T
};

// All keys of `keys` that the tile sees. acc comes in reset to the tile's rows.
void online_softmax(const AttentionProblem& problem, const QueryTile& tile, std::int32_t kv_head, Range keys,
                    LaneBuffers& buffers, Accumulator& acc);

}  // namespace flashladder::reference::c4
