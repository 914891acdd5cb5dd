// Greedy list scheduling: the work, in order, each to the CTA that is least loaded so far.
#pragma once

#include "core/plan.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::planner {

// Fills the part's queues from its items and adds to plan.cta_cost, which holds the loads of the parts before. Ties go to
// the lowest CTA.
void list_schedule(const PlanInputs& inputs, Plan& plan, PlanPart& part);

// Sorts the items of a part that is to be claimed: the costliest first, equal ones as they were. What is long starts early,
// and what is left at the end is short, so that the CTAs end together (LPT; Graham, SIAM J. Appl. Math. 17(2), 1969).
void costliest_first(const PlanInputs& inputs, PlanPart& part);

}  // namespace flashladder::planner
