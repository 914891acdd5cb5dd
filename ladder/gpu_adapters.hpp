// The GPU rungs and how they are run. Compiled only with CUDA; without a GPU each of them says so in supports().
#pragma once

#include <vector>

#include "ladder/agree.hpp"
#include "ladder/rung.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::ladder {

std::vector<Rung> gpu_rungs();  // from the lowest up

// As run_rung, with every buffer on the GPU: uploads the case, poisons and guards output and workspace. The stopwatch sees
// the launches and the wait for them.
RunResult run_gpu_rung(const Rung& rung, const Case& c, const Settings& settings, const Stopwatch& stopwatch);

// What a planned rung's blocks are: the packed query rows that one takes at most, and how many are resident in an SM.
struct GpuGrid {
  std::int32_t most_rows, blocks_per_sm;
  bool persistent = false;  // runs the plan's queues
};

// The plan that a rung executes. D3 to D5 launch a block for each item and leave the order to the GPU's block scheduler.
// Policy balanced cuts for CTAs that each work through a queue, as D6's do; for the others it stands for the one chunk size,
// or none, for which the cost model predicts the shortest time.
planner::PlanInputs gpu_plan_inputs(const CaseSpec& spec, const Settings& settings, GpuGrid grid);

}  // namespace flashladder::ladder
