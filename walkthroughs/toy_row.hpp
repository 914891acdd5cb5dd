// What chapters 01 to 03 take apart: one query on ten keys, and one head as C0 sees it.
#pragma once

#include <cstdint>

#include "ladder/cases/case.hpp"
#include "reference/c2_split_merge.hpp"

namespace flashladder::walkthroughs {

// One query on ten keys, head_dim 4, one head, no mask: what chapters 02 and 03 take apart.
struct ToyRow {
  explicit ToyRow(std::uint64_t seed);
  reference::c2::Partial attend(Range keys) const;  // C1 on these keys alone, finished: what C2 merges

  ladder::Case c;
  reference::QueryTile tile;        // its one row
  reference::Matrix<float> k, v;    // [10, 4]
  Eigen::RowVectorXf x;             // [10]  its logits, log2 units
  double o_rounding, lse_rounding;  // how far a float result may be off: the floor of ladder/oracle.hpp
};

// One head of request 0 as C0 sees it: its inputs, the scores q.k, and the logits (log2 units, -inf where the query does not
// see the key).
struct Head {
  Head(const AttentionProblem& problem, std::int32_t qo_head);

  reference::Matrix<double> q, k, v;         // [qo_len, head_dim_qk], [kv_len, head_dim_qk], [kv_len, head_dim_vo]
  reference::Matrix<double> scores, logits;  // [qo_len, kv_len]
};

}  // namespace flashladder::walkthroughs
