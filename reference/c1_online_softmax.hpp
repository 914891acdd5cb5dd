// C1, online softmax: one pass over tiles of keys, with a running maximum m, a running sum d and an o that is rescaled
// whenever the maximum grows. Must equal C0.
// New: the score matrix shrinks to [query_tile, key_tile]; o is divided once, at the end; all in float.
// (FlashAttention: Dao et al., arXiv:2205.14135, algorithm 1; loop order and late division of FlashAttention-2,
// arXiv:2307.08691, section 3.1: queries outside, keys inside, so that o never leaves its registers.)
// Leaves out: pages (it gathers the request first), parallelism.
#pragma once

#include "core/attention_problem.hpp"
#include "reference/query_tile.hpp"

namespace flashladder::reference::c1 {

inline constexpr std::int32_t query_tile = 64, key_tile = 128;

// A row's P = 2^(logits - m), in place, vectorised. An empty row (m = -inf) has P = 0.
void exp2_minus(Eigen::Ref<Eigen::RowVectorXf> logits, float m);

// One step: S = Q K^T of the tile's rows against keys [first_key, first_key + k.rows()), absorbed into acc. s is scratch.
void absorb_keys(const QueryTile& tile, const RowsView& k, const RowsView& v, std::int32_t first_key, Matrix<float>& s,
                 Accumulator& acc);

// All keys of `keys` that the tile can see, key_tile at a time, from gathered matrices k [kv_len, dqk] and v [kv_len, dvo].
void online_softmax(const QueryTile& tile, const Matrix<float>& k, const Matrix<float>& v, Range keys, Accumulator& acc);

void attend(const AttentionProblem& problem, const AttentionOutput& output);

}  // namespace flashladder::reference::c1
