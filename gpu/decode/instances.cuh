// The instances of the decode kernels, all of them: one place, because each costs build time.
//
//   rung       dtype           head_dim (qk, vo)   variant                               why
//   D1         f32, f16, bf16  any, at run time    General                               takes everything: the oracle
//   D2 to D5   f16             64, 128             Scaled                                each teaches one idea
//   D6         f16, bf16       64, 128, 256        Scaled, SoftCapped: up to 16 heads    what models use
//                                                  General: up to 8, for its registers   the rest
//                                                  Rotated: the same                     RoPE inside attention
//   D7         the same        the same              the same                              few requests
#pragma once

#include "core/error.hpp"
#include "core/half.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/variants.cuh"
#include "gpu/decode/decode.hpp"

namespace flashladder::gpu {

// D2 to D5: f.operator()<Element, head_dim>(). decode.hpp: why_not_lower_rungs().
template <class F>
void with_lower_instance(const AttentionCall& call, F&& f) {
  require(call.dtype == DType::f16, "dtype", name_of(call.dtype), "is not f16");
  const std::int32_t head_dim = call.params.head_dim_qk;
  require(head_dim == 64 || head_dim == 128, "head_dim", head_dim, "is neither 64 nor 128");
  if (head_dim == 64) return f.template operator()<Half, 64>();
  return f.template operator()<Half, 128>();
}

// The smallest compiled number of packed query rows that holds `wanted`, at most lane_rows: f.operator()<rows>().
template <class F>
void with_rows(std::int32_t wanted, F&& f) {
  if (wanted <= 1) return f.template operator()<1>();
  if (wanted <= 4) return f.template operator()<4>();
  return f.template operator()<lane_rows>();
}

// D5: f.operator()<Element, head_dim, head_tiles>(); a head tile is 8 rows.
template <class F>
void with_d5_instance(const AttentionCall& call, std::int32_t query_tile, F&& f) {
  with_lower_instance(call, [&]<class Element, int head_dim>() {
    if (query_tile > 8) return f.template operator()<Element, head_dim, 2>();
    f.template operator()<Element, head_dim, 1>();
  });
}

// D6 and D7: f.operator()<Element, head_dim, head_tiles, Variant>().
template <class F>
void with_d6_instance(const AttentionCall& call, std::int32_t query_tile, F&& f) {
  const bool general = needs_general(call.params);
  require(query_tile <= d6::grid(call.params.head_dim_qk, general).query_tile, "plan.query_tile", query_tile,
          "is more than this variant's instance has rows");
  const auto with_tiles = [&]<class Element, int head_dim>() {
    if (general) {
      return with_variant<Rotated, General>(call.params, [&]<class Variant>() {
        f.template operator()<Element, head_dim, 1, Variant>();
      });
    }
    with_variant<Scaled, SoftCapped>(call.params, [&]<class Variant>() {
      if constexpr (d6::grid(head_dim, false).query_tile > 8) {
        if (query_tile > 8) return f.template operator()<Element, head_dim, 2, Variant>();
      }
      f.template operator()<Element, head_dim, 1, Variant>();
    });
  };
  const auto with_dim = [&]<class Element>() {
    const std::int32_t head_dim = call.params.head_dim_qk;
    require(head_dim == 64 || head_dim == 128 || head_dim == 256, "head_dim", head_dim, "is none of 64, 128, 256");
    if (head_dim == 64) return with_tiles.template operator()<Element, 64>();
    if (head_dim == 128) return with_tiles.template operator()<Element, 128>();
    return with_tiles.template operator()<Element, 256>();
  };
  require(call.dtype == DType::f16 || call.dtype == DType::bf16, "dtype", name_of(call.dtype), "is neither f16 nor bf16");
  if (call.dtype == DType::f16) return with_dim.template operator()<Half>();
  return with_dim.template operator()<BFloat16>();
}

}  // namespace flashladder::gpu
