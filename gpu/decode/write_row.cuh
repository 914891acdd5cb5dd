// Where a finished row of o goes: the output, with the sink merged once by its final writer, or the workspace of a plan.
#pragma once

#include "core/softmax_state.hpp"
#include "gpu/decode/decode_params.hpp"

namespace flashladder::gpu {

// One feature of one row (request * num_qo_heads + head) of the output. value is not normalised.
__device__ inline void write_output(const DecodeParams& p, std::int64_t row, int head_dim, int feature,
                                    SoftmaxState<float> state, float value) {
  if (p.sinks != nullptr) value *= merge(state, SoftmaxState<float>::from_sink(p.sinks[row % p.num_qo_heads])).a;
  p.o[row * head_dim + feature] = value * state.inverse_d();
  if (feature == 0 && p.lse_log2 != nullptr) p.lse_log2[row] = state.lse_log2();
}

// One feature of one partial row of the workspace, normalised.
__device__ inline void write_partial(const PlannedParams& plan, std::int64_t slot, int head_dim, int feature,
                                     SoftmaxState<float> state, float value) {
  plan.partial_o[slot * head_dim + feature] = value * state.inverse_d();
  if (feature == 0) plan.partial_lse_log2[slot] = state.lse_log2();
}

}  // namespace flashladder::gpu
