// The one instance that mutants are built for, in the place of gpu/attention/instances.cuh: f16, head_dim 128, no soft cap.
#pragma once

#include "core/error.hpp"
#include "core/half.hpp"
#include "gpu/decode/decode_params.hpp"
#include "gpu/attention/score.cuh"

namespace flashladder::gpu {

template <class F>
void with_instance(const DecodeCall& call, F&& f) {
  const bool compiled = call.dtype == DType::f16 && call.head_dim == 128 && call.params.soft_cap == 0;
  require(compiled, "head_dim", call.head_dim, "mutants take f16, head_dim 128, no soft cap");
  f.template operator()<Half, 128, ScaledScore>();
}

}  // namespace flashladder::gpu
