// The element types of the MLA rungs: f.operator()<Element>(), of queries and latent rows; and of L4
// f.operator()<Element, narrow>(), narrow where latent rows are E4M3.
#pragma once

#include "core/half.hpp"
#include "gpu/mla/mla.hpp"

namespace flashladder::gpu {

// A call that require_mla() takes.
template <class F>
void with_mla_element(const MlaCall& call, F&& f) {
  if (call.dtype == DType::f16) f.template operator()<Half>();
  else f.template operator()<BFloat16>();
}

template <class F>
void with_mla_formats(const MlaCall& call, F&& f) {
  with_mla_element(call, [&]<class Element>() {
    if (call.kv_dtype == call.dtype) f.template operator()<Element, false>();
    else f.template operator()<Element, true>();
  });
}

}  // namespace flashladder::gpu
