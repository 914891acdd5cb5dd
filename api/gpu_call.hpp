// From run()'s arguments to a launch: what plan and run, and the calls for a single request, have in common on the GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "api/attention_backend.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/packed_plan.hpp"

namespace flashladder::api {

inline cudaStream_t cuda_stream(Stream stream) { return static_cast<cudaStream_t>(stream); }
bool is_capturing(Stream stream);

// The kernel behind a class: D6 for decode, P1 for any number of queries. InputError if it does not compute this.
void require_computable(const AttentionParams& params, DType dtype, bool decode);
AttentionMachine gpu_machine(const AttentionParams& params, bool decode);  // on the current device
void attend_on_gpu(const gpu::AttentionCall& call, bool decode, const gpu::PackedShape& capacity, std::byte* packed,
                   void* partials, Stream stream);

// page_ids: on the device; nullptr: identity pages. The arguments have been checked.
gpu::AttentionCall gpu_attention_call(const AttentionParams& params, const AttentionArguments& arguments,
                                      const std::int32_t* page_ids);

}  // namespace flashladder::api
