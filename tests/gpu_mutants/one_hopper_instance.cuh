// The one instance that mutants of P11 and P12 are built for, in the place of gpu/prefill/hopper_instances.cuh: f16, head_dim 128.
#pragma once

#include "core/error.hpp"
#include "core/half.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/variants.cuh"
#include "gpu/prefill/hopper_shape.cuh"

namespace flashladder::gpu {

template <class F>
void with_p11_instance(const AttentionCall& call, F&& f) {
  require(call.dtype == DType::f16 && call.params.head_dim_qk == 128 && call.params.head_dim_vo == 128, "head_dim",
          call.params.head_dim_qk, "mutants take f16, head_dim 128");
  f.template operator()<HopperShape<Half, 128, 128, 128, true>, MUTANT_VARIANT>();
}

template <class F>
void with_p12_instance(const AttentionCall& call, F&& f) {
  require(call.dtype == DType::f16, "dtype", name_of(call.dtype), "mutants take f16");
  f.template operator()<Half>();
}

}  // namespace flashladder::gpu
