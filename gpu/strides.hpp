// What kernels ask of a tensor's strides: to move 16 bytes at once, and to count from head to head in 32 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <limits>

#include "core/error.hpp"
#include "core/tensor.hpp"

namespace flashladder::gpu {

// InputError unless `data` and the strides, in elements of so many bytes, are multiples of 16 bytes.
inline void require_aligned(const char* argument, const void* data, std::size_t element,
                            std::initializer_list<std::int64_t> strides) {
  bool aligned = reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
  for (const std::int64_t stride : strides) aligned = aligned && stride * static_cast<std::int64_t>(element) % 16 == 0;
  require(aligned, argument, "", "on the GPU its pointer and its strides must be multiples of 16 bytes");
}

// Of [tokens, heads, features]; 0 where there is one head. InputError if heads lie 2^31 elements apart.
inline std::int32_t head_stride(const Tensor& t, const char* argument) {
  const std::int64_t stride = t.shape[1] > 1 ? t.strides[1] : 0;
  require(std::abs(stride) <= std::numeric_limits<std::int32_t>::max(), argument, stride,
          "is the stride from head to head and must be less than 2^31 on the GPU");
  return static_cast<std::int32_t>(stride);
}

}  // namespace flashladder::gpu
