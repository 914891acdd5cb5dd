// Where a finished row of o goes: the output, with the sink merged once by its final writer, or the workspace of a plan.
//
// A row is named by its place: query counts the tokens of q and o, qo_head its heads. row_constant is what the variant keeps
// out of the row's logits because all of them share it (variants.cuh).
#pragma once

#include "core/row.hpp"
#include "core/softmax_state.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/element.cuh"

namespace flashladder::gpu {

// What scales a row of o, its sink merged; lse_log2 is written by the one who has feature 0.
__device__ inline float finish_row(const QueryRows& rows, RowPlace at, int feature, SoftmaxState<float> state,
                                   float row_constant) {
  using State = SoftmaxState<float>;
  const float sink_log2 = rows.sinks == nullptr ? State::nothing : State::from_sink(rows.sinks[at.qo_head]).m;
  const FinishedRow<float> row = flashladder::finish_row(state, sink_log2, row_constant);
  if (feature == 0 && rows.lse_log2 != nullptr) {
    rows.lse_log2[std::int64_t{at.query} * rows.num_qo_heads + at.qo_head] = row.lse_log2;
  }
  return row.scale;
}

// One feature of one row of the output. value is not normalised.
__device__ inline void write_output(const QueryRows& rows, RowPlace at, int feature, SoftmaxState<float> state, float value,
                                    float row_constant = 0) {
  const float normalised = value * finish_row(rows, at, feature, state, row_constant);
  const std::int64_t offset = rows.o_offset(at) + feature;
  if (rows.o_dtype == DType::f32) static_cast<float*>(rows.o)[offset] = normalised;
  if (rows.o_dtype == DType::f16) static_cast<Half*>(rows.o)[offset] = from_float<Half>(normalised);
  if (rows.o_dtype == DType::bf16) static_cast<BFloat16*>(rows.o)[offset] = from_float<BFloat16>(normalised);
}

// ... four neighbours at once: feature is a multiple of 4, and so are the strides of o.
__device__ inline void write_output(const QueryRows& rows, RowPlace at, int feature, SoftmaxState<float> state, float4 value,
                                    float row_constant = 0) {
  const float scale = finish_row(rows, at, feature, state, row_constant);
  const std::int64_t offset = (rows.o_offset(at) + feature) / 4;
  value = {value.x * scale, value.y * scale, value.z * scale, value.w * scale};
  if (rows.o_dtype == DType::f32) static_cast<float4*>(rows.o)[offset] = value;
  if (rows.o_dtype == DType::f16) {
    static_cast<uint2*>(rows.o)[offset] = {pack<Half>(value.x, value.y), pack<Half>(value.z, value.w)};
  }
  if (rows.o_dtype == DType::bf16) {
    static_cast<uint2*>(rows.o)[offset] = {pack<BFloat16>(value.x, value.y), pack<BFloat16>(value.z, value.w)};
  }
}

// One feature of one partial row of the workspace, normalised.
__device__ inline void write_partial(float* partial_o, float* partial_lse_log2, std::int64_t slot, int head_dim, int feature,
                                     SoftmaxState<float> state, float value) {
  partial_o[slot * head_dim + feature] = value * state.inverse_d();
  if (feature == 0) partial_lse_log2[slot] = state.lse_log2();
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
