// The element types of the rungs that take all of them: f.operator()<Element, Stored>(), of q and of the cache.
#pragma once

#include "core/error.hpp"
#include "core/float8.hpp"
#include "core/half.hpp"
#include "gpu/attention/attention_call.hpp"

namespace flashladder::gpu {

template <class Element, class F>
void with_stored(const AttentionCall& call, F&& f) {
  if (call.kv_dtype == DType::f8_e4m3) return f.template operator()<Element, Float8E4M3>();
  if (call.kv_dtype == DType::f8_e5m2) return f.template operator()<Element, Float8E5M2>();
  f.template operator()<Element, Element>();
}

template <class F>
void with_elements(const AttentionCall& call, F&& f) {
  const std::string reason = why_not_any_dtypes({call.dtype, call.kv_dtype});
  require(reason.empty(), "dtype", name_of(call.dtype), reason.c_str());
  if (call.dtype == DType::f32) return with_stored<float>(call, f);
  if (call.dtype == DType::f16) return with_stored<Half>(call, f);
  with_stored<BFloat16>(call, f);
}

}  // namespace flashladder::gpu
