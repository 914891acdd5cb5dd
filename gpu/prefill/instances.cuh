// The instances of the prefill kernels, all of them: one place, because each costs build time.
//
//   rung       dtype           head_dim (qk, vo)                           variant   why
//   P1         f32, f16, bf16  any, at run time                            General   takes everything: the oracle
//   P2 to P4   f16             (128, 128)                                  Scaled    each teaches one idea
//   P5         f16, bf16       (64, 64) (128, 128) (256, 256) (192, 128)   Scaled    what models use
//                                                                          General   the rest, soft caps too
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

// P5: f.operator()<Element, head_dim_qk, head_dim_vo, Variant>().
template <class F>
void with_p5_instance(const AttentionCall& call, F&& f) {
  const auto with_dims = [&]<class Element, int qk, int vo>() {
    with_variant<Scaled, General>(call.params, [&]<class Variant>() { f.template operator()<Element, qk, vo, Variant>(); });
  };
  const auto with_dim = [&]<class Element>() {
    const std::int32_t qk = call.params.head_dim_qk, vo = call.params.head_dim_vo;
    if (qk == 64 && vo == 64) return with_dims.template operator()<Element, 64, 64>();
    if (qk == 128 && vo == 128) return with_dims.template operator()<Element, 128, 128>();
    if (qk == 256 && vo == 256) return with_dims.template operator()<Element, 256, 256>();
    require(qk == 192 && vo == 128, "head_dim", qk, "is none of 64, 128, 256, nor 192 with head_dim_vo 128");
    with_dims.template operator()<Element, 192, 128>();
  };
  require(call.dtype == DType::f16 || call.dtype == DType::bf16, "dtype", name_of(call.dtype), "is neither f16 nor bf16");
  if (call.dtype == DType::f16) return with_dim.template operator()<Half>();
  return with_dim.template operator()<BFloat16>();
}

}  // namespace flashladder::gpu
