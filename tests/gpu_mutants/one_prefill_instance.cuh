// The one instance that mutants are built for, in the place of gpu/prefill/instances.cuh: f16, head_dim 128, the variant
// that generate.py names (Scaled, or General).
#pragma once

#include "core/error.hpp"
#include "core/half.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/variants.cuh"
#include "gpu/prefill/prefill.hpp"

namespace flashladder::gpu {

inline void require_one_prefill_instance(const AttentionCall& call) {
  require(call.dtype == DType::f16 && call.params.head_dim_qk == 128 && call.params.head_dim_vo == 128, "head_dim",
          call.params.head_dim_qk, "mutants take f16, head_dim 128");
}

template <class F>
void with_lower_prefill_instance(const AttentionCall& call, std::int32_t, F&& f) {
  require_one_prefill_instance(call);
  f.template operator()<Half>();
}

template <class F>
void with_p5_instance(const AttentionCall& call, F&& f) {
  require_one_prefill_instance(call);
  f.template operator()<Half, 128, 128, MUTANT_VARIANT>();
}

}  // namespace flashladder::gpu
