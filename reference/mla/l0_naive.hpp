// L0, naive latent attention: softmax(Q_nope C^T + Q_pe P^T) C, head by head, in double. Must equal C0 on the same problem
// written as multi-query attention: one KV head of 576 features, whose value is the first 512 of them.
// New: q and the cache come in two parts each; V is not read, it is C.
// Leaves out: speed, and that all heads share one latent row.
#pragma once

#include "core/mla_problem.hpp"

namespace flashladder::reference::l0 {

// Writes o (f32) and the lse of the whole batch.
void attend(const MlaProblem& problem, const AttentionOutput& output);

}  // namespace flashladder::reference::l0
