// Launches the GPU's planner of a prefill: one block, on the stream of the kernel that runs the plan.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "gpu/plan/prefill_plan.hpp"

namespace flashladder::gpu {

// "" if these sizes and costs are such that the planner can count with them, else what is not.
const char* why_not_planned(const PrefillPlanParams& params);
std::size_t plan_scratch_bytes(const PrefillPlanParams& params);
// scratch: plan_scratch_bytes() on the device. The lengths may be a kernel's output: they are read when that has ended.
void plan_prefill(const PrefillPlanParams& params, std::byte* scratch, cudaStream_t stream, bool programmatic);

}  // namespace flashladder::gpu
