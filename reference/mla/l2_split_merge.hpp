// L2, split and merge: C2's merging of partials, of latent rows. Must equal L1.
// New: a request's keys are cut anywhere, so that few long requests can fill a machine; with all heads in one tile there is
// no other parallelism in decode.
// Leaves out: who runs which piece.
#pragma once

#include "core/mla_problem.hpp"
#include "reference/c2_split_merge.hpp"

namespace flashladder::reference::l2 {

void attend(const MlaProblem& problem, const AttentionOutput& output, const c2::Split& split = c2::chunks_of_256);

}  // namespace flashladder::reference::l2
