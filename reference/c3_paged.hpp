// C3, paged: K and V are read tile by tile through the page table, where they lie. Must equal C2.
// New: no request is gathered; a tile of keys (many pages, or part of one) is brought into a small buffer, which is what a
// GPU kernel does with shared memory. Costs one locate() per token, needs two tiles of memory instead of the whole request.
// (PagedAttention: Kwon et al., arXiv:2309.06180.)
// Leaves out: who runs which piece.
#pragma once

#include "core/attention_problem.hpp"
#include "reference/c2_split_merge.hpp"
#include "reference/query_tile.hpp"

namespace flashladder::reference::c3 {

// What a worker needs besides its accumulator: the "shared memory" of one block.
struct Buffers {
  Matrix<float> k, v;  // [key_tile, head_dim_qk], [key_tile, head_dim_vo]
  Matrix<float> s;     // [rows, key_tile]
};

// c1::online_softmax, reading through the page table.
void online_softmax(const AttentionProblem& problem, const QueryTile& tile, std::int32_t kv_head, Range keys,
                    Buffers& buffers, Accumulator& acc);

void attend(const AttentionProblem& problem, const AttentionOutput& output, const c2::Split& split = c2::chunks_of_256);

}  // namespace flashladder::reference::c3
