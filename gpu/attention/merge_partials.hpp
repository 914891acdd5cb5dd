// Joins the partials of a plan's cut tiles, in slot order: the second kernel of a split-K rung.
#pragma once

#include <cuda_runtime_api.h>

#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/packed_plan.hpp"

namespace flashladder::gpu {

// The partials of `plan`, a claimed part of this shape, were written by the previous kernel on the stream.
void merge_partials(const AttentionCall& call, const PackedShape& shape, const PackedParams& plan, cudaStream_t stream);

}  // namespace flashladder::gpu
