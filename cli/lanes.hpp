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
  std::string refused = {};  // why there is no plan
};
// The same batch under every policy; a policy that can't plan it says why. Throws InputError if none can.
std::vector<NamedPlan> plans_of_all_policies(planner::PlanInputs inputs);

// One plan: its lanes, SM by SM. Several: those that could be made, side by side over one time axis.
draw::Svg lanes_picture(const std::vector<NamedPlan>& plans, const planner::PlanInputs& inputs, const std::string& title);

// Chunk 0: not cut. Makespan and tail are predicted, in key-equivalents.
extern const Row policy_header;
Row policy_row(const NamedPlan& plan);

// The table of the policies, and a sentence for each that can't plan the batch.
std::string policies_text(const std::vector<NamedPlan>& plans);

}  // namespace flashladder::cli
