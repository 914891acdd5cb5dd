// Launches the GPU's planner of a decode: one block, on the stream of the kernel that runs the plan.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "gpu/plan/decode_plan.hpp"

namespace flashladder::gpu {

// "" if these sizes and costs are such that the planner can count with them, else what is not.
const char* why_not_planned(const DecodePlanParams& params);
std::size_t plan_scratch_bytes(const DecodePlanParams& params);
// scratch: plan_scratch_bytes() on the device. The lengths may be a kernel's output: they are read when that has ended.
void plan_decode(const DecodePlanParams& params, std::byte* scratch, cudaStream_t stream, bool programmatic);

}  // namespace flashladder::gpu
