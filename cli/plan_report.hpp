// A plan in words and as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cli/lanes.hpp"
#include "ladder/cases/case_spec.hpp"
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

nlohmann::ordered_json configuration_json(const ladder::CaseSpec& spec, const planner::PlanInputs& inputs);
nlohmann::ordered_json plan_json(const NamedPlan& plan);  // everything that an executor needs, and the summary
nlohmann::ordered_json execution_json(const Execution& execution);

}  // namespace flashladder::cli
