// A plan in words and as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/lanes.hpp"
#include "ladder/cases/case_spec.hpp"
#include "ladder/cases/input/json.hpp"
#include "ladder/compare.hpp"

namespace flashladder::cli {

// What became of a plan that was executed.
struct Execution {
  int threads = 0;
  double milliseconds = 0;
  std::string sample;             // how much was compared with the double oracle: "all heads"
  ladder::Comparison agreement;   // with the rung below, all of it, and with the oracle
};

std::string configuration_text(const ladder::CaseSpec& spec, const planner::PlanInputs& inputs, const std::string& policy);
std::string planning_text(const NamedPlan& plan, bool decode);

ladder::Json configuration_json(const ladder::CaseSpec& spec, const planner::PlanInputs& inputs);
ladder::Json plan_json(const NamedPlan& plan);  // everything that an executor needs, and the summary
ladder::Json execution_json(const Execution& execution);

}  // namespace flashladder::cli
