#include "cli/lanes.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "draw/plan_lanes.hpp"
#include "draw/text.hpp"
#include "planner/planner.hpp"

namespace flashladder::cli {

std::vector<NamedPlan> plans_of_all_policies(planner::PlanInputs inputs) {
  std::vector<NamedPlan> plans;
  for (const planner::SplitPolicy policy : planner::all_policies) {
    inputs.policy = policy;
    try {
      plans.push_back({policy, planner::make_plan(inputs)});
    } catch (const InputError& error) {
      plans.push_back({policy, {}, error.what()});
    }
  }
  const auto refused = [](const NamedPlan& p) { return !p.refused.empty(); };
  if (std::all_of(plans.begin(), plans.end(), refused)) {
    throw InputError("--policy", "all", "none can plan this: " + plans[0].refused);
  }
  return plans;
}

draw::Svg lanes_picture(const std::vector<NamedPlan>& plans, const planner::PlanInputs& inputs, const std::string& title) {
  std::vector<std::vector<float>> costs;
  std::vector<draw::PolicyLanes> lanes;
  for (const NamedPlan& p : plans) costs.push_back(work_costs(p.plan, inputs.cost));
  if (plans.size() == 1) return draw::plan_lanes(plans[0].plan, costs[0], inputs.machine.ctas_per_sm, title);
  for (std::size_t i = 0; i < plans.size(); ++i) {
    if (plans[i].refused.empty()) lanes.push_back({name_of(plans[i].policy), &plans[i].plan, costs[i]});
  }
  return draw::policies_picture(lanes, inputs.machine.ctas_per_sm, {.title = title});
}

const Row policy_header{"policy", "chunk", "items", "merges", "workspace", "makespan", "utilisation", "tail", "idle CTAs"};

Row policy_row(const NamedPlan& p) {
  const planner::PlanSummary s = planner::summarize(p.plan);
  return {name_of(p.policy), std::to_string(p.plan.chunk_size), std::to_string(s.items),
          std::to_string(s.merges), draw::with_unit(static_cast<double>(s.workspace_bytes), "B"),
          std::to_string(std::lround(p.plan.makespan)), draw::percent(s.utilisation), std::to_string(std::lround(s.tail)),
          std::to_string(s.idle_ctas)};
}

std::string policies_text(const std::vector<NamedPlan>& plans) {
  std::vector<Row> rows;
  std::string refused;
  for (const NamedPlan& p : plans) {
    if (p.refused.empty()) rows.push_back(policy_row(p));
    else refused += paragraph(std::string("Policy ") + name_of(p.policy) + " can't plan this batch: " + p.refused, 2);
  }
  return text_table(policy_header, rows) + refused;
}

}  // namespace flashladder::cli
