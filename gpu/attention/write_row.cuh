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

// What scales a row of o, the scale of its values too, and its lse_log2: its sink merged.
__device__ inline FinishedRow<float> finished_row(const QueryRows& rows, RowPlace at, SoftmaxState<float> state,
                                                  float row_constant) {
  using State = SoftmaxState<float>;
  const float sink_log2 = rows.sinks == nullptr ? State::nothing : State::from_sink(rows.sinks[at.qo_head]).m;
  FinishedRow<float> row = flashladder::finish_row(state, sink_log2, row_constant);
  row.scale *= rows.v_scale_of(at.qo_head);
  return row;
}
// Returns what scales a row of o; lse is written by the one who has feature 0.
__device__ inline float finish_row(const QueryRows& rows, RowPlace at, int feature, SoftmaxState<float> state,
                                   float row_constant) {
  const FinishedRow<float> row = finished_row(rows, at, state, row_constant);
  if (feature == 0 && rows.lse != nullptr) rows.lse[rows.lse_offset(at)] = row.lse_log2 * rows.lse_factor;
  return row.scale;
}

// Neighbours of a row that are finished: offset elements from o, a multiple of their number, as the row's strides are.
__device__ inline void store_row(void* o, DType dtype, std::int64_t offset, float value) {
  if (dtype == DType::f32) static_cast<float*>(o)[offset] = value;
  if (dtype == DType::f16) static_cast<Half*>(o)[offset] = from_float<Half>(value);
  if (dtype == DType::bf16) static_cast<BFloat16*>(o)[offset] = from_float<BFloat16>(value);
}
__device__ inline void store_row(void* o, DType dtype, std::int64_t offset, float2 value) {
  offset /= 2;
  if (dtype == DType::f32) static_cast<float2*>(o)[offset] = value;
  if (dtype == DType::f16) static_cast<std::uint32_t*>(o)[offset] = pack<Half>(value.x, value.y);
  if (dtype == DType::bf16) static_cast<std::uint32_t*>(o)[offset] = pack<BFloat16>(value.x, value.y);
}
__device__ inline void store_row(void* o, DType dtype, std::int64_t offset, float4 value) {
  offset /= 4;
  if (dtype == DType::f32) static_cast<float4*>(o)[offset] = value;
  if (dtype == DType::f16) {
    static_cast<uint2*>(o)[offset] = {pack<Half>(value.x, value.y), pack<Half>(value.z, value.w)};
  }
  if (dtype == DType::bf16) {
    static_cast<uint2*>(o)[offset] = {pack<BFloat16>(value.x, value.y), pack<BFloat16>(value.z, value.w)};
  }
}
__device__ inline void store_row(void* o, DType dtype, std::int64_t offset, const Float8& value) {
  if (dtype == DType::f32) {
    store_row(o, dtype, offset, float4{value.at[0], value.at[1], value.at[2], value.at[3]});
    store_row(o, dtype, offset + 4, float4{value.at[4], value.at[5], value.at[6], value.at[7]});
  }
  if (dtype == DType::f16) static_cast<uint4*>(o)[offset / 8] = pack<Half>(value);
  if (dtype == DType::bf16) static_cast<uint4*>(o)[offset / 8] = pack<BFloat16>(value);
}

// One feature of one row of the output. value is not normalised.
__device__ inline void write_output(const QueryRows& rows, RowPlace at, int feature, SoftmaxState<float> state, float value,
                                    float row_constant = 0) {
  const float scale = finish_row(rows, at, feature, state, row_constant);
  store_row(rows.o, rows.o_dtype, rows.o_offset(at) + feature, value * scale);
}

// ... four neighbours at once.
__device__ inline void write_output(const QueryRows& rows, RowPlace at, int feature, SoftmaxState<float> state, float4 value,
                                    float row_constant = 0) {
  const float scale = finish_row(rows, at, feature, state, row_constant);
  value = {value.x * scale, value.y * scale, value.z * scale, value.w * scale};
  store_row(rows.o, rows.o_dtype, rows.o_offset(at) + feature, value);
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
