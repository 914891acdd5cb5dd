// CUDA's f16 as far as FlashLadder's kernels use it, on a simulated GPU.
#pragma once

#include <bit>
#include <cstdint>

#include "core/half.hpp"
#include "simt/include/vector_types.h"

struct __half {
  std::uint16_t bits;
};
struct __half2 {
  __half x, y;
};
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half h) { return h.bits; }
inline float __half2float(__half h) {
  flashladder::Half x;
  x.bits = h.bits;
  return static_cast<float>(x);
}
inline __half __float2half_rn(float x) { return {flashladder::Half(x).bits}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline float2 __half22float2(__half2 pair) { return {__half2float(pair.x), __half2float(pair.y)}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
