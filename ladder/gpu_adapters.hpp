// The GPU rungs and how they are run. Compiled only with CUDA; without a GPU each of them says so in supports().
#pragma once

#include <vector>

#include "ladder/agree.hpp"
#include "ladder/rung.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::ladder {

std::vector<Rung> gpu_rungs();  // from the lowest up

// As run_rung, with every buffer on the GPU: uploads the case, poisons and guards output and workspace, runs once.
RunResult run_gpu_rung(const Rung& rung, const Case& c, const Settings& settings);

// The plan that the planned GPU rungs execute: tiles of at most 8 packed rows, the grid that fits this GPU at once.
planner::PlanInputs gpu_plan_inputs(const CaseSpec& spec, const Settings& settings);

}  // namespace flashladder::ladder
