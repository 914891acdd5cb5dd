// Where a finished row of o goes: the output, with the sink merged once by its final writer, or the workspace of a plan.
#pragma once

#include "core/softmax_state.hpp"
#include "gpu/decode/decode_params.hpp"
#include "gpu/element.cuh"

namespace flashladder::gpu {

// What divides a row of o, with its sink; lse_log2 is written by the one who has feature 0.
__device__ inline float finish_row(const DecodeParams& p, std::int64_t row, int feature, SoftmaxState<float> state) {
  const float rescale =
      p.sinks == nullptr ? 1 : merge(state, SoftmaxState<float>::from_sink(p.sinks[row % p.num_qo_heads])).a;
  if (feature == 0 && p.lse_log2 != nullptr) p.lse_log2[row] = state.lse_log2();
  return rescale * state.inverse_d();
}

// One feature of one row (request * num_qo_heads + head) of the output. value is not normalised.
__device__ inline void write_output(const DecodeParams& p, std::int64_t row, int head_dim, int feature,
                                    SoftmaxState<float> state, float value) {
  const float normalised = value * finish_row(p, row, feature, state);
  const std::int64_t at = row * head_dim + feature;
  if (p.o_dtype == DType::f32) static_cast<float*>(p.o)[at] = normalised;
  if (p.o_dtype == DType::f16) static_cast<Half*>(p.o)[at] = from_float<Half>(normalised);
  if (p.o_dtype == DType::bf16) static_cast<BFloat16*>(p.o)[at] = from_float<BFloat16>(normalised);
}

// ... four neighbours at once: feature is a multiple of 4.
__device__ inline void write_output(const DecodeParams& p, std::int64_t row, int head_dim, int feature,
                                    SoftmaxState<float> state, float4 value) {
  const float scale = finish_row(p, row, feature, state);
  const std::int64_t at = (row * head_dim + feature) / 4;
  value = {value.x * scale, value.y * scale, value.z * scale, value.w * scale};
  if (p.o_dtype == DType::f32) static_cast<float4*>(p.o)[at] = value;
  if (p.o_dtype == DType::f16) static_cast<uint2*>(p.o)[at] = {pack<Half>(value.x, value.y), pack<Half>(value.z, value.w)};
  if (p.o_dtype == DType::bf16) {
    static_cast<uint2*>(p.o)[at] = {pack<BFloat16>(value.x, value.y), pack<BFloat16>(value.z, value.w)};
  }
}

// One feature of one partial row of the workspace, normalised.
__device__ inline void write_partial(const PlannedParams& plan, std::int64_t slot, int head_dim, int feature,
                                     SoftmaxState<float> state, float value) {
  plan.partial_o[slot * head_dim + feature] = value * state.inverse_d();
  if (feature == 0) plan.partial_lse_log2[slot] = state.lse_log2();
}

// ... four neighbours at once.
__device__ inline void write_partial(float* partial_o, float* partial_lse_log2, std::int64_t slot, int head_dim, int feature,
                                     SoftmaxState<float> state, float4 value) {
  const float scale = state.inverse_d();
  reinterpret_cast<float4*>(partial_o)[(slot * head_dim + feature) / 4] = {value.x * scale, value.y * scale,
                                                                          value.z * scale, value.w * scale};
  if (feature == 0) partial_lse_log2[slot] = state.lse_log2();
}

}  // namespace flashladder::gpu
