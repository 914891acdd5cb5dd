// C4, planned: executes a Plan item by item on all cores, then its merges: the CPU stand-in for a GPU's grid. Must equal C3.
// New: the work is a list made beforehand (plan), so ragged batches fill all workers; heads of a group are packed into one
// tile, so K and V are read once per group; partials go to a workspace whose size the plan knows. The inner loop is C1's
// with a query row in each SIMD lane (c4_lanes.hpp).
// Knows no planner: whoever calls it brings the Plan. The result is the same bits for the same plan, whoever runs an item.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/attention_problem.hpp"
#include "core/plan.hpp"
#include "reference/thread_pool.hpp"

namespace flashladder::reference::c4 {

// Refuses a plan that was made for another problem: batch, heads, dims, rows or keys that the requests don't have.
void validate_plan(const Plan& plan, const AttentionProblem& problem);

// CTA c's queue goes to worker c % workers, so that the plan's balance is kept.
std::vector<std::vector<std::int32_t>> queues_for_workers(const PlanPart& part, int workers);

// workspace: at least plan.workspace_bytes(), 4-byte aligned, contents don't matter. Of a claimed part the workers claim the
// work in order; schedule says what they do of the others.
void attend(const AttentionProblem& problem, const Plan& plan, std::span<std::byte> workspace, ThreadPool& pool,
            Schedule schedule, const AttentionOutput& output);

}  // namespace flashladder::reference::c4
