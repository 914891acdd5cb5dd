// What the kernels around attention ask of their arguments beyond core/op_checks.hpp: kernels count in int32, and some
// compute in 16 bits only. Each function returns silently or throws an InputError.
#pragma once

#include <cstdint>
#include <limits>

#include "core/error.hpp"
#include "core/tensor.hpp"

namespace flashladder::gpu {

// Dimensions fit int32, with room for the last block's threads.
inline void require_int32_shape(const char* argument, const Tensor& t) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max() - 1023;
  for (int i = 0; i < t.rank; ++i) {
    require(t.shape[i] <= most, argument, t.shape[i], "has a dimension of more than 2^31 - 1024");
  }
}

inline void require_16_bits(const char* argument, const Tensor& t) {
  require(t.dtype == DType::f16 || t.dtype == DType::bf16, argument, name_of(t.dtype), "must be f16 or bf16 on the GPU");
}

}  // namespace flashladder::gpu
