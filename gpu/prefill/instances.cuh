// The instances of the prefill kernels, all of them: one place, because each costs build time.
//
//   rung       dtype           head_dim (qk, vo)                           variant   why
//   P1         f32, f16, bf16  any, at run time                            General   takes everything: the oracle
//   P2 to P4   f16             (128, 128)                                  Scaled    each teaches one idea
#pragma once

#include "core/error.hpp"
#include "core/half.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/variants.cuh"
#include "gpu/prefill/prefill.hpp"

namespace flashladder::gpu {

// P2 to P4: f.operator()<Element>(). prefill.hpp: why_not_lower_prefill().
template <class F>
void with_lower_prefill_instance(const AttentionCall& call, std::int32_t query_tile, F&& f) {
  require(query_tile <= lower_prefill_grid.query_tile, "plan.query_tile", query_tile, "is more rows than a tile has");
  require(call.dtype == DType::f16, "dtype", name_of(call.dtype), "is not f16");
  const AttentionParams& p = call.params;
  require(p.head_dim_qk == 128 && p.head_dim_vo == 128, "head_dim", p.head_dim_qk, "is not 128");
  f.template operator()<Half>();
}

}  // namespace flashladder::gpu
