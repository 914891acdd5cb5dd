// CUDA's fp8 as far as FlashLadder's kernels use it, on a simulated GPU.
#pragma once

#include <cstdint>

#include "core/float8.hpp"
#include "simt/include/cuda_fp16.h"

typedef std::uint16_t __nv_fp8x2_storage_t;
enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 };
struct __half2_raw {
  unsigned short x, y;
};
inline __half2_raw __nv_cvt_fp8x2_to_halfraw2(__nv_fp8x2_storage_t two, __nv_fp8_interpretation_t) {
  const auto one = [](unsigned bits) {
    flashladder::Float8E4M3 x;
    x.bits = static_cast<std::uint8_t>(bits);
    return __float2half_rn(static_cast<float>(x)).bits;
  };
  return {one(two & 0xffu), one(two >> 8u)};
}
