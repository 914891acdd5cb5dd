// The instances of the prefill kernels, all of them: one place, because each costs build time.
//
//   rung   dtype           head_dim (qk, vo)                     variant
//   P1     f32, f16, bf16  any, at run time                      General
//   P6-P10 f16             128                                   Scaled (lower_hopper.cuh)
//   P11    f16, bf16       64, 128, 256 and (192, 128)           Scaled, SoftCapped, Masked, General
//   P12    f16, bf16       128                                   Scaled: mixed batches of the others are P11's
//
// Keys of a tile: as many as registers hold beside O, P and Q (hopper_shape.cuh). General keeps more of each row, and has
// smaller tiles.
#pragma once

#include <type_traits>

#include "core/error.hpp"
#include "core/half.hpp"
#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/variants.cuh"
#include "gpu/prefill/hopper_shape.cuh"

namespace flashladder::gpu {

// P11: f.operator()<Shape, Variant>().
template <class F>
void with_p11_instance(const AttentionCall& call, F&& f) {
  const auto with_shape = [&]<class Element, class Variant>() {
    constexpr bool plain = Variant::only_scales;
    const std::int32_t qk = call.params.head_dim_qk, vo = call.params.head_dim_vo;
    if (qk == 64 && vo == 64) return f.template operator()<HopperShape<Element, 64, 64, plain ? 96 : 64, true>, Variant>();
    if (qk == 128 && vo == 128) {
      constexpr bool general = std::is_same_v<Variant, General>;
      return f.template operator()<HopperShape<Element, 128, 128, general ? 64 : 128, true>, Variant>();
    }
    if (qk == 192 && vo == 128) {
      return f.template operator()<HopperShape<Element, 192, 128, plain ? 96 : 64, true>, Variant>();
    }
    require(qk == 256 && vo == 256, "head_dim", qk, "is none of 64, 128, 256 or 192 with 128");
    f.template operator()<HopperShape<Element, 256, 256, 64, false>, Variant>();
  };
  require(call.dtype == DType::f16 || call.dtype == DType::bf16, "dtype", name_of(call.dtype), "is neither f16 nor bf16");
  with_variant<Scaled, SoftCapped, Masked, General>(call.params, [&]<class Variant>() {
    if (call.dtype == DType::f16) return with_shape.template operator()<Half, Variant>();
    with_shape.template operator()<BFloat16, Variant>();
  });
}

// P12: f.operator()<Element>(). p12::why_not() says what it takes.
template <class F>
void with_p12_instance(const AttentionCall& call, F&& f) {
  require(call.params.head_dim_qk == 128 && call.params.head_dim_vo == 128, "head_dim", call.params.head_dim_qk, "is not 128");
  require(call.dtype == DType::f16 || call.dtype == DType::bf16, "dtype", name_of(call.dtype), "is neither f16 nor bf16");
  if (call.dtype == DType::f16) return f.template operator()<Half>();
  f.template operator()<BFloat16>();
}

}  // namespace flashladder::gpu
