// The instances of the decode kernels, all of them: one place, because each costs build time.
//
//   rung       dtype           head_dim (qk, vo)   variant                               why
//   D1         f32, f16, bf16  any, at run time    General                               takes everything: the oracle
//   D2 to D5   f16             64, 128             Scaled                                each teaches one idea
//   D6         f16, bf16       64, 128, 256        Scaled, SoftCapped: up to 16 heads    what models use
//                                                  General: up to 8, for its registers   the rest
//                                                  Rotated: the same                     RoPE inside attention
//              q either, K    64, 128, 256        Scaled, SoftCapped: up to 16 heads    fp8 caches, which become f16
//              and V f8_e4m3                      General: up to 8
//   D7         the same        the same              the same                              few requests
#pragma once

#include "core/error.hpp"
#include "core/float8.hpp"
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

// D6 and D7: f.operator()<Element, Stored, head_dim, head_tiles, Variant>(), as of TileShape.
template <class F>
void with_d6_instance(const AttentionCall& call, std::int32_t query_tile, F&& f) {
  const bool general = needs_general(call.params);
  require(query_tile <= d6::grid(call.params.head_dim_qk, general).query_tile, "plan.query_tile", query_tile,
          "is more than this variant's instance has rows");
  const auto with_tiles = [&]<class Element, class Stored, int head_dim>() {
    const auto with_one_tile = [&]<class Variant>() { f.template operator()<Element, Stored, head_dim, 1, Variant>(); };
    if (general) {
      if constexpr (sizeof(Stored) == 1) return with_variant<General>(call.params, with_one_tile);
      else return with_variant<Rotated, General>(call.params, with_one_tile);
    }
    with_variant<Scaled, SoftCapped>(call.params, [&]<class Variant>() {
      if constexpr (d6::grid(head_dim, false).query_tile > 8) {
        if (query_tile > 8) return f.template operator()<Element, Stored, head_dim, 2, Variant>();
      }
      with_one_tile.template operator()<Variant>();
    });
  };
  const auto with_dim = [&]<class Element, class Stored>() {
    const std::int32_t head_dim = call.params.head_dim_qk;
    require(head_dim == 64 || head_dim == 128 || head_dim == 256, "head_dim", head_dim, "is none of 64, 128, 256");
    if (head_dim == 64) return with_tiles.template operator()<Element, Stored, 64>();
    if (head_dim == 128) return with_tiles.template operator()<Element, Stored, 128>();
    return with_tiles.template operator()<Element, Stored, 256>();
  };
  require(call.dtype == DType::f16 || call.dtype == DType::bf16, "dtype", name_of(call.dtype), "is neither f16 nor bf16");
  if (call.kv_dtype == DType::f8_e4m3) return with_dim.template operator()<Half, Float8E4M3>();
  if (call.dtype == DType::f16) return with_dim.template operator()<Half, Half>();
  return with_dim.template operator()<BFloat16, BFloat16>();
}

}  // namespace flashladder::gpu
