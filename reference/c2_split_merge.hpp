// C2, split and merge: the keys are cut anywhere, every piece is attended to on its own, and the partial results are merged
// by their lse. Must equal C1.
// New: pieces are independent (on a GPU they run at the same time: Flash-Decoding, Dao et al. 2023); a partial is a
// *normalised* o and its lse_log2, and merging needs nothing else.
// Leaves out: pages (it gathers the request first), who runs which piece.
#pragma once

#include <functional>
#include <vector>

#include "core/attention_problem.hpp"
#include "reference/query_tile.hpp"

namespace flashladder::reference::c2 {

// What is left of a tile and one piece of its keys when its softmax is finished.
struct Partial {
  Matrix<float> o;              // [rows, head_dim_vo], divided by its own d
  std::vector<float> lse_log2;  // [rows]
};
Partial finish(const Accumulator& acc);

// Merges one more partial into what has been merged so far.
void absorb_partial(const Partial& partial, Accumulator& merged);

// Cuts [0, kv_len) into pieces, in the order in which they are merged. They must cover every key once.
using Split = std::function<std::vector<Range>(std::int32_t kv_len)>;
std::vector<Range> chunks_of_256(std::int32_t kv_len);
// The pieces, or an InputError if some key is covered twice or not at all.
std::vector<Range> checked(std::vector<Range> pieces, std::int32_t kv_len, std::int32_t request);

void attend(const AttentionProblem& problem, const AttentionOutput& output, const Split& split = chunks_of_256);

}  // namespace flashladder::reference::c2
