// Greedy list scheduling: the items, in order, each to the CTA that is least loaded so far.
#pragma once

#include "core/plan.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::planner {

// Fills plan.queue_indptr, queue and cta_cost from plan.items. Ties go to the lowest CTA.
void list_schedule(const PlanInputs& inputs, Plan& plan);

}  // namespace flashladder::planner
