// The element types of the MLA rungs: f.operator()<Element>(), of queries and latent rows.
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

}  // namespace flashladder::gpu
