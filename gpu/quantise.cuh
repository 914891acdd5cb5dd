// Floats that are stored as fp8: x / scale, divided as IEEE 754 has it, rounded once to nearest even and saturated. The bits
// are those of core/float8.hpp. Which of the two formats is a value and no type: every thread of a grid takes the same
// branch, and a kernel for each format would be twice as many.
#pragma once

#include <cuda_fp8.h>

#include <cstdint>
#include <type_traits>

#include "core/float8.hpp"
#include "core/kv_scales.hpp"
#include "core/tensor.hpp"

namespace flashladder::gpu {

// Two neighbours as fp8, the first in the low byte. The GPU's own conversion is that of sm_89 and newer.
template <class Fp8>
__device__ inline std::uint32_t pack_fp8(float low, float high) {
#if __CUDA_ARCH__ >= 890
  constexpr auto format = std::is_same_v<Fp8, Float8E5M2> ? __NV_E5M2 : __NV_E4M3;
  return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, format);
#else
  return std::uint32_t{Fp8(low).bits} | std::uint32_t{Fp8(high).bits} << 8;
#endif
}

// n bytes side by side, the first lowest.
template <int n>
struct BytesOf;
template <>
struct BytesOf<1> {
  using Type = std::uint8_t;
};
template <>
struct BytesOf<4> {
  using Type = std::uint32_t;
};
template <>
struct BytesOf<8> {
  using Type = uint2;
};

template <class Fp8, int n>
__device__ inline typename BytesOf<n>::Type as_fp8(const float (&x)[n]) {
  const auto four = [&](int i) { return pack_fp8<Fp8>(x[i], x[i + 1]) | pack_fp8<Fp8>(x[i + 2], x[i + 3]) << 16; };
  if constexpr (n == 1) {
    return static_cast<std::uint8_t>(pack_fp8<Fp8>(x[0], 0));
  } else if constexpr (n == 4) {
    return four(0);
  } else {
    return make_uint2(four(0), four(4));
  }
}

// The stored form of x over a scale.
template <int n>
__device__ inline typename BytesOf<n>::Type quantised(const float (&x)[n], float scale, bool e5m2) {
  float y[n];
#pragma unroll
  for (int i = 0; i < n; ++i) y[i] = __fdiv_rn(x[i], scale);
  return e5m2 ? as_fp8<Float8E5M2>(y) : as_fp8<Float8E4M3>(y);
}

// What becomes of a result is the last argument of a kernel and decides its instance: nothing, or one of the two below.
struct Unquantised {
  static constexpr bool quantises = false;
};

// K and V of an fp8 cache.
struct KvQuantiser {
  static constexpr bool quantises = true;
  float k = 1, v = 1;
  const float *k_per_head = nullptr, *v_per_head = nullptr;  // [num_kv_heads], or nullptr: the number k or v
  bool e5m2 = false;

  KvQuantiser(const KvScales& s, DType dtype)
      : k(s.k), v(s.v), k_per_head(s.k_per_head.empty() ? nullptr : s.k_per_head.data()),
        v_per_head(s.v_per_head.empty() ? nullptr : s.v_per_head.data()), e5m2(dtype == DType::f8_e5m2) {}

  __device__ float scale(bool is_v, std::int32_t kv_head) const {
    const float* per_head = is_v ? v_per_head : k_per_head;
    return per_head != nullptr ? per_head[kv_head] : is_v ? v : k;
  }
};

// An output with one scale.
struct OutQuantiser {
  static constexpr bool quantises = true;
  float number = 1;
  const float* stored = nullptr;  // where the scale lies, or nullptr: the number
  bool e5m2 = false;

  OutQuantiser(const QuantScale& s, DType dtype) : number(s.number), stored(s.stored), e5m2(dtype == DType::f8_e5m2) {}

  __device__ float scale() const { return stored != nullptr ? *stored : number; }
};

}  // namespace flashladder::gpu
