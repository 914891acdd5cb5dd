// What the kernels around attention ask of their arguments beyond core/op_checks.hpp: kernels count in int32, and some
// compute in 16 bits only. Each function returns silently or throws an InputError.
#pragma once

#include <cstdint>
#include <limits>

#include "core/error.hpp"
#include "core/tensor.hpp"

namespace flashladder::gpu {

// Dimensions fit int32, with room for the last block's threads.
inline constexpr std::int64_t most_int32_size = std::numeric_limits<std::int32_t>::max() - 1023;
inline void require_int32_shape(const char* argument, const ConstTensor& t) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(t.rank); ++i) {
    require(t.shape[i] <= most_int32_size, argument, t.shape[i], "has a dimension of more than 2^31 - 1024");
  }
}

// The heads that a kernel counts through: those of all tensors of a token together.
inline void require_int32_heads(const char* argument, std::int64_t heads) {
  require(heads <= most_int32_size, argument, heads,
          "heads a token, those of all tensors together, are more than 2^31 - 1024");
}

inline void require_16_bits(const char* argument, const ConstTensor& t) {
  require(t.dtype == DType::f16 || t.dtype == DType::bf16, argument, name_of(t.dtype), "must be f16 or bf16 on the GPU");
}

}  // namespace flashladder::gpu
