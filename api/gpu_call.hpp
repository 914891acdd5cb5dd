// From run()'s arguments to a launch of D6: what plan and run, and the single decode, have in common on the GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "api/attention_backend.hpp"
#include "gpu/decode/decode.hpp"

namespace flashladder::api {

inline cudaStream_t cuda_stream(Stream stream) { return static_cast<cudaStream_t>(stream); }
bool is_capturing(Stream stream);

// InputError if D6 does not compute this.
void require_computable(const AttentionParams& params, DType dtype);

AttentionMachine gpu_machine(std::int32_t head_dim);  // of the current device

// indices: the page ids on the device; nullptr: identity pages. InputError if a pointer or a stride is not a multiple of
// 16 bytes. The arguments have been checked otherwise.
gpu::DecodeCall gpu_decode_call(const AttentionParams& params, const AttentionArguments& arguments,
                                const std::int32_t* indices, std::int32_t batch);

}  // namespace flashladder::api
