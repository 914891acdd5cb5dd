// Floats back into 16-bit elements, rounded once, to nearest even: the way out that gpu/element.cuh is the way in for.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "core/half.hpp"
#include "gpu/element.cuh"

namespace flashladder::gpu {

template <class Element>
__device__ inline Element from_float(float x);
template <>
__device__ inline Half from_float<Half>(float x) {
  Half rounded;
  rounded.bits = __half_as_ushort(__float2half_rn(x));
  return rounded;
}
template <>
__device__ inline BFloat16 from_float<BFloat16>(float x) {
  BFloat16 rounded;
  rounded.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
  return rounded;
}

// Two neighbours into a 32-bit register, the low half first: one instruction.
template <class Element>
__device__ inline std::uint32_t from_floats(float low, float high);
template <>
__device__ inline std::uint32_t from_floats<Half>(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return std::uint32_t{__half_as_ushort(__low2half(pair))} | std::uint32_t{__half_as_ushort(__high2half(pair))} << 16;
}
template <>
__device__ inline std::uint32_t from_floats<BFloat16>(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return std::uint32_t{__bfloat16_as_ushort(__low2bfloat16(pair))} |
         std::uint32_t{__bfloat16_as_ushort(__high2bfloat16(pair))} << 16;
}

template <class Element>
__device__ inline uint4 from_floats(const Float8& x) {
  return {from_floats<Element>(x.at[0], x.at[1]), from_floats<Element>(x.at[2], x.at[3]),
          from_floats<Element>(x.at[4], x.at[5]), from_floats<Element>(x.at[6], x.at[7])};
}

}  // namespace flashladder::gpu
