// From a dot product to a logit in log2 units, as a compile-time variant of a kernel: a new logits feature is a new struct
// here, and no main loop changes. The order is that of core/score_transform.hpp.
#pragma once

#include "core/softmax_state.hpp"
#include "gpu/decode/decode_params.hpp"

namespace flashladder::gpu {

struct ScaledScore {
  float scale;
  __device__ explicit ScaledScore(const DecodeParams& p) : scale(p.sm_scale * static_cast<float>(log2_e)) {}
  __device__ float operator()(float dot) const { return dot * scale; }
};

struct SoftCappedScore {
  float inner, outer;
  __device__ explicit SoftCappedScore(const DecodeParams& p)
      : inner(p.sm_scale / p.soft_cap), outer(p.soft_cap * static_cast<float>(log2_e)) {}
  __device__ float operator()(float dot) const { return outer * tanhf(dot * inner); }
};

}  // namespace flashladder::gpu
