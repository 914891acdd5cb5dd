// L1, tiled latent attention: C1's online softmax over tiles of latent rows. Must equal L0.
// New: a latent row is brought in once, and is the key and the value of all heads. Since heads differ in q alone, they are
// rows of one tile: row r is query r / num_heads, head r % num_heads.
// Leaves out: cutting a request's keys.
#pragma once

#include "core/mla_problem.hpp"
#include "reference/query_tile.hpp"

namespace flashladder::reference::l1 {

// Rows [rows.begin, rows.end) of a request: q and their rules.
void load_tile(const MlaProblem& problem, const AttentionProblem& frame, std::int32_t request, Range rows, QueryTile& tile);

// All keys of `keys` that the tile can see, c1::key_tile at a time, through the page table.
void online_softmax(const MlaProblem& problem, const QueryTile& tile, Range keys, Matrix<float>& latents, Matrix<float>& s,
                    Accumulator& acc);

void attend(const MlaProblem& problem, const AttentionOutput& output);

}  // namespace flashladder::reference::l1
