// Plans for the eye: the policies side by side as lanes and as a table.
#pragma once

#include <string>
#include <vector>

#include "cli/console.hpp"
#include "core/plan.hpp"
#include "draw/svg.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::cli {

struct NamedPlan {
  planner::SplitPolicy policy;
  Plan plan;
};
// The same batch under every policy.
std::vector<NamedPlan> plans_of_all_policies(planner::PlanInputs inputs);

// One plan: its lanes, SM by SM. Several: side by side over one time axis.
draw::Svg lanes_picture(const std::vector<NamedPlan>& plans, const planner::PlanInputs& inputs, const std::string& title);

// Chunk 0: not cut. Makespan and tail are predicted, in key-equivalents.
extern const Row policy_header;
Row policy_row(const NamedPlan& plan);

}  // namespace flashladder::cli
