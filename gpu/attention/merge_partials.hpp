// Joins the partials of a plan's cut tiles, in slot order: the second kernel of a split-K rung.
#pragma once

#include <cuda_runtime_api.h>

#include "gpu/decode/decode_params.hpp"

namespace flashladder::gpu {

// plan.partial_o and partial_lse_log2 were written by the kernels before it on the stream. query_tile: most rows of a Merge.
void merge_partials(const DecodeCall& call, const PlannedParams& plan, std::int64_t num_merges, std::int32_t query_tile,
                    cudaStream_t stream);

}  // namespace flashladder::gpu
