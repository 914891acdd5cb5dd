// From the planner's inputs to the kernels that plan on the GPU.
#pragma once

#include <cstddef>

#include "api/attention_backend.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/plan/plan_decode.hpp"
#include "gpu/plan/plan_prefill.hpp"

namespace flashladder::api {

// inputs: a decode's, without lengths; lengths: on the device. packed: the block that is to be written, of this shape.
gpu::DecodePlanParams decode_plan_params(const planner::PlanInputs& inputs, const BatchLengths& lengths,
                                         const gpu::PackedShape& shape, std::byte* packed);
// The same of a prefill.
gpu::PrefillPlanParams prefill_plan_params(const planner::PlanInputs& inputs, const BatchLengths& lengths,
                                           const gpu::PackedShape& shape, std::byte* packed);

}  // namespace flashladder::api
