// The GPU rungs. Compiled only with CUDA; without a GPU each of them says so in supports().
#pragma once

#include <string>
#include <vector>

#include "gpu/decode/decode.hpp"
#include "ladder/rung.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::ladder {

std::vector<Rung> gpu_rungs();  // from the lowest up

// What a planned rung's blocks are: the packed query rows that one takes at most, and how many are resident in an SM.
struct GpuGrid {
  std::int32_t most_rows, blocks_per_sm;
  bool persistent = false;  // runs the plan's queues
};

// The plan that a rung executes. D3 to D5 launch a block for each item and leave the order to the GPU's block scheduler.
// Policy balanced cuts for CTAs that each work through a queue, as D6's do; for the others it stands for the one chunk size,
// or none, for which the cost model predicts the shortest time.
planner::PlanInputs gpu_plan_inputs(const CaseSpec& spec, const Settings& settings, GpuGrid grid);

using GridOf = GpuGrid (*)(const AttentionParams&);
GpuGrid d5_grid(const AttentionParams& params);
GpuGrid d6_grid(const AttentionParams& params);

// A rung of a kernel that launches a block for each item, or of a persistent one. The tests make some of broken kernels.
using PlannedAttend = decltype(&gpu::d5::attend);
using PersistentAttend = decltype(&gpu::d6::attend);
Rung planned_on_gpu(std::string name, std::string idea, std::string teaches, std::string must_equal, GridOf grid,
                    PlannedAttend attend);
Rung persistent_on_gpu(std::string name, std::string idea, std::string teaches, std::string must_equal, GridOf grid,
                       PersistentAttend attend);

}  // namespace flashladder::ladder
