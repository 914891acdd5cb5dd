// The one element type that mutants of the MLA kernels are built for, in the place of gpu/mla/elements.cuh: f16,
// and of L4 f16 on latent rows of f16 or E4M3.
#pragma once

#include <type_traits>

#include "core/error.hpp"
#include "core/float8.hpp"
#include "core/half.hpp"
#include "gpu/mla/mla.hpp"

namespace flashladder::gpu {

template <class F>
void with_mla_element(const MlaCall& call, F&& f) {
  require(call.dtype == DType::f16, "dtype", name_of(call.dtype), "mutants take f16");
  f.template operator()<Half>();
}

// MUTANT_STORED: of latent rows.
template <class F>
void with_mla_formats(const MlaCall& call, F&& f) {
  constexpr bool narrow = std::is_same_v<MUTANT_STORED, Float8E4M3>;
  require(call.dtype == DType::f16 && (call.kv_dtype == DType::f8_e4m3) == narrow, "dtype", name_of(call.kv_dtype),
          "is not this mutant's");
  f.template operator()<Half, narrow>();
}

}  // namespace flashladder::gpu
