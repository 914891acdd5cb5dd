// The one element type that mutants are built for, in the place of gpu/attention/elements.cuh: f16.
#pragma once

#include "core/error.hpp"
#include "core/half.hpp"
#include "gpu/attention/attention_call.hpp"

namespace flashladder::gpu {

template <class F>
void with_elements(const AttentionCall& call, F&& f) {
  require(call.dtype == DType::f16, "dtype", name_of(call.dtype), "mutants take f16");
  f.template operator()<Half, Half>();
}

}  // namespace flashladder::gpu
