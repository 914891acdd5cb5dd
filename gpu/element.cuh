// Elements in registers: one at a time (f32 too), or the eight 16-bit ones of a 16-byte load.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>

#include "core/float8.hpp"
#include "core/half.hpp"

namespace flashladder::gpu {

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(Half x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ inline float to_float(BFloat16 x) { return __uint_as_float(std::uint32_t{x.bits} << 16); }

// By way of f16 and without a branch, exact: E5M2 is the upper half of an f16; the bits of an E4M3 are those of an f16 that is
// 2^-8 of it, subnormal ones too, but for its one NaN.
__device__ inline float to_float(Float8E5M2 x) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(x.bits << 8)));
}
__device__ inline float to_float(Float8E4M3 x) {
  const unsigned magnitude = x.bits & 0x7fu, sign = x.bits & 0x80u;
  const float value = 256 * __half2float(__ushort_as_half(static_cast<unsigned short>(sign << 8 | magnitude << 7)));
  return magnitude == 0x7fu ? __int_as_float(0x7fc00000) : value;
}

// Rounded to nearest, ties to even.
template <class Element>
__device__ inline Element from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline Half from_float<Half>(float x) {
  Half h;
  h.bits = __half_as_ushort(__float2half_rn(x));
  return h;
}
template <>
__device__ inline BFloat16 from_float<BFloat16>(float x) {
  BFloat16 b;
  b.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
  return b;
}

// Two neighbours in a 32-bit register, the low half first.
template <class Element>
__device__ inline float2 to_floats(std::uint32_t pair);
template <>
__device__ inline float2 to_floats<Half>(std::uint32_t pair) {
  return __half22float2(__halves2half2(__ushort_as_half(pair & 0xffffu), __ushort_as_half(pair >> 16)));
}
template <>
__device__ inline float2 to_floats<BFloat16>(std::uint32_t pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};  // bf16 is the upper half of an f32
}

// Four E4M3 bytes as f16, which every E4M3 number is: x holds the lower two, the lowest in its low half, y the upper two.
// By PTX (sm_89 and newer), since of two 16-bit halves of a register the compiler would shift the upper one down first.
__device__ inline uint2 e4m3_to_f16(std::uint32_t bytes) {
#if __CUDA_ARCH__ >= 890
  uint2 four;
  asm("{\n.reg .b16 lower, upper;\nmov.b32 {lower, upper}, %2;\n"
      "cvt.rn.f16x2.e4m3x2 %0, lower;\ncvt.rn.f16x2.e4m3x2 %1, upper;\n}" : "=r"(four.x), "=r"(four.y) : "r"(bytes));
  return four;
#else
  const auto pair = [](std::uint32_t two) {
    const __half2_raw raw = __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(two), __NV_E4M3);
    return std::uint32_t{raw.x} | std::uint32_t{raw.y} << 16;
  };
  return {pair(bytes & 0xffffu), pair(bytes >> 16)};
#endif
}

struct Float8 {
  float at[8];
};
template <class Element>
__device__ inline Float8 to_floats(uint4 bytes) {
  const float2 a = to_floats<Element>(bytes.x), b = to_floats<Element>(bytes.y), c = to_floats<Element>(bytes.z),
               d = to_floats<Element>(bytes.w);
  return {a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y};
}

// Two neighbours rounded to 16 bits, the first in the low half.
template <class Element>
__device__ inline std::uint32_t pack(float low, float high);
template <>
__device__ inline std::uint32_t pack<Half>(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return std::uint32_t{__half_as_ushort(pair.x)} | std::uint32_t{__half_as_ushort(pair.y)} << 16;
}
template <>
__device__ inline std::uint32_t pack<BFloat16>(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return std::uint32_t{__bfloat16_as_ushort(pair.x)} | std::uint32_t{__bfloat16_as_ushort(pair.y)} << 16;
}

template <class Element>
__device__ inline uint4 pack(const Float8& x) {
  return {pack<Element>(x.at[0], x.at[1]), pack<Element>(x.at[2], x.at[3]), pack<Element>(x.at[4], x.at[5]),
          pack<Element>(x.at[6], x.at[7])};
}

}  // namespace flashladder::gpu
