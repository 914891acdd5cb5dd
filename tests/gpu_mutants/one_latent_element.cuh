// The one element type that mutants of the MLA kernels are built for, in the place of gpu/mla/elements.cuh: f16.
#pragma once

#include "core/error.hpp"
#include "core/half.hpp"
#include "gpu/mla/mla.hpp"

namespace flashladder::gpu {

template <class F>
void with_mla_element(const MlaCall& call, F&& f) {
  require(call.dtype == DType::f16, "dtype", name_of(call.dtype), "mutants take f16");
  f.template operator()<Half>();
}

}  // namespace flashladder::gpu
