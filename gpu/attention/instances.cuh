// The instances of a decode kernel, all of them: dtype x head_dim x score. One place, because each costs build time.
#pragma once

#include <string>

#include "core/error.hpp"
#include "core/half.hpp"
#include "gpu/decode/decode_params.hpp"
#include "gpu/attention/score.cuh"

namespace flashladder::gpu {

// Calls f.operator()<Element, head_dim, Score>() for what the call wants.
template <class F>
void with_instance(const DecodeCall& call, F&& f) {
  require(call.head_dim == 64 || call.head_dim == 128 || call.head_dim == 256, "head_dim", call.head_dim,
          "is none of 64, 128, 256");
  const auto with_score = [&]<class Element, int head_dim>() {
    if (call.params.soft_cap > 0) return f.template operator()<Element, head_dim, SoftCappedScore>();
    return f.template operator()<Element, head_dim, ScaledScore>();
  };
  const auto with_dim = [&]<class Element>() {
    if (call.head_dim == 64) return with_score.template operator()<Element, 64>();
    if (call.head_dim == 128) return with_score.template operator()<Element, 128>();
    return with_score.template operator()<Element, 256>();
  };
  require(call.dtype == DType::f16 || call.dtype == DType::bf16, "dtype", name_of(call.dtype), "is neither f16 nor bf16");
  if (call.dtype == DType::f16) return with_dim.template operator()<Half>();
  return with_dim.template operator()<BFloat16>();
}

// Calls f.operator()<rows>() with the smallest compiled number of packed query rows that holds `wanted`, at most most_rows.
template <class F>
void with_rows(std::int32_t wanted, F&& f) {
  if (wanted <= 1) return f.template operator()<1>();
  if (wanted <= 4) return f.template operator()<4>();
  return f.template operator()<8>();
}

}  // namespace flashladder::gpu
