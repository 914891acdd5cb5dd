// What a row is multiplied by: 1 / sqrt(mean of squares + eps), for any numbers (reference/norm.hpp has the rules).
//
// bf16 has the exponents of float, so a sum of squares may overflow or underflow where the norm itself is an ordinary
// number. Where the plain mean is not far inside of float's range, the row is summed again, multiplied by a power of two
// that brings its largest element, or sqrt(eps), near 1. A product with a power of two is exact. f16 needs none of that.
#pragma once

#include <limits>
#include <type_traits>

#include "gpu/element.cuh"

namespace flashladder::gpu {

template <class Element>
constexpr bool may_leave_range = std::is_same_v<Element, BFloat16>;

// Is the mean of squares (and eps) right? No square has overflowed, and what has underflowed is too little to count. Not for
// a NaN.
__device__ inline bool is_in_range(float mean) { return mean >= 0x1p-60f && mean <= std::numeric_limits<float>::max(); }

// A row of zeros, with eps = 0, stays a row of zeros. NaN stays NaN.
__device__ inline float norm_scale(float mean) { return mean == 0 ? 0 : rsqrtf(mean); }

// 2^-e, where 2^e is near the largest of a row, or sqrt(eps) where that is more.
__device__ inline float power_for(float largest, float eps) {
  const std::uint32_t exponent = __float_as_uint(fmaxf(largest, sqrtf(eps))) >> 23;  // biased by 127
  return __uint_as_float((254 - min(max(exponent, 1u), 253u)) << 23);
}

}  // namespace flashladder::gpu
