// The element types of the rungs that take all of them: f.operator()<Element>() for the call's dtype.
#pragma once

#include "core/error.hpp"
#include "core/half.hpp"
#include "gpu/attention/attention_call.hpp"

namespace flashladder::gpu {

template <class F>
void with_element(const AttentionCall& call, F&& f) {
  require(is_attention_dtype(call.dtype), "dtype", static_cast<int>(call.dtype), "is none of f32, f16, bf16");
  if (call.dtype == DType::f32) return f.template operator()<float>();
  if (call.dtype == DType::f16) return f.template operator()<Half>();
  f.template operator()<BFloat16>();
}

}  // namespace flashladder::gpu
