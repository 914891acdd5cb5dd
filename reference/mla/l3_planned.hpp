// L3, planned latent attention: executes a Plan item by item on all cores, as C4. Must equal L2.
// New: the plan is the one that the GPU's kernels run, made for one KV head: a tile packs rows of all heads, and its items are
// ranges of latent rows. One query row in each SIMD lane (c4_lanes.hpp): a latent row's address is handed over twice, as
// that of a key and as that of a value.
#pragma once

#include "core/mla_problem.hpp"
#include "reference/plan_executor.hpp"

namespace flashladder::reference::l3 {

// What a plan for the problem must have been made for: num_qo_heads = num_heads, num_kv_heads = 1, head_dim_vo =
// head_dim_ckv. Throws InputError otherwise. workspace, schedule, result and memory: as of PlanExecutor.
class Executor : public PlanRunner {
 public:
  using PlanRunner::PlanRunner;
  int run(const MlaProblem& problem, const Plan& plan, std::span<std::byte> workspace, Schedule schedule,
          const AttentionOutput& output);
};

}  // namespace flashladder::reference::l3
