// Between stored elements (f32, f16, bf16; of caches fp8 too) and the float or double that the CPU code computes in. A dtype
// is looked at once per call of visit_dtype, never per element, so that the loops below it stay vector code.
#pragma once

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "core/error.hpp"
#include "core/float8.hpp"
#include "core/half.hpp"
#include "core/tensor.hpp"

namespace flashladder::reference {

// Calls f(float{}), f(Half{}) or f(BFloat16{}): visit_dtype(t.dtype, [&]<class Element>(Element) { ... }).
template <class F>
decltype(auto) visit_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return std::forward<F>(f)(float{});
    case DType::f16: return std::forward<F>(f)(Half{});
    case DType::bf16: return std::forward<F>(f)(BFloat16{});
    default: throw InputError("dtype", std::to_string(static_cast<int>(dtype)), "must be f32, f16 or bf16");
  }
}

// The same of what a KV cache may hold: f(Float8E4M3{}) and f(Float8E5M2{}) too.
template <class F>
decltype(auto) visit_cache_dtype(DType dtype, F&& f) {
  if (dtype == DType::f8_e4m3) return std::forward<F>(f)(Float8E4M3{});
  if (dtype == DType::f8_e5m2) return std::forward<F>(f)(Float8E5M2{});
  return visit_dtype(dtype, std::forward<F>(f));
}

// out[0 .. n) = row[0 .. n), exactly. Out is float or double.
template <class Element, class Out>
void load_row(const Element* row, std::int64_t n, Out* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<Out>(static_cast<float>(row[i]));
}

// row[0 .. n) = values[0 .. n), rounded once to nearest even.
template <class Element>
void store_row(const float* values, std::int64_t n, Element* row) {
  for (std::int64_t i = 0; i < n; ++i) row[i] = static_cast<Element>(values[i]);
}

// The 256 numbers of an 8-bit format: looking one up is faster than taking its bits apart.
template <class Float8>
inline constexpr std::array<float, 256> float8_values = [] {
  std::array<float, 256> values{};
  for (int bits = 0; bits < 256; ++bits) {
    Float8 x{};
    x.bits = static_cast<std::uint8_t>(bits);
    values[static_cast<std::size_t>(bits)] = static_cast<float>(x);
  }
  return values;
}();
template <class Out>
void load_row(const Float8E4M3* row, std::int64_t n, Out* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<Out>(float8_values<Float8E4M3>[row[i].bits]);
}
template <class Out>
void load_row(const Float8E5M2* row, std::int64_t n, Out* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<Out>(float8_values<Float8E5M2>[row[i].bits]);
}

#if defined(__F16C__)
// Half's branches for subnormals and infinities keep the compiler from vectorising it (30 times slower than this). The
// instructions round as Half does; of a NaN they keep more payload bits.
inline void load_row(const Half* row, std::int64_t n, float* out) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + i))));
  }
  for (; i < n; ++i) out[i] = static_cast<float>(row[i]);
}
inline void store_row(const float* values, std::int64_t n, Half* row) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i eight = _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(row + i), eight);
  }
  for (; i < n; ++i) row[i] = static_cast<Half>(values[i]);
}
#endif

// The same on a tensor's memory: n dense elements from `offset` (in elements) on.
inline void load_row(const ConstTensor& t, std::int64_t offset, std::int64_t n, float* out) {
  visit_dtype(t.dtype, [&]<class Element>(Element) { load_row(t.data_as<const Element>() + offset, n, out); });
}
inline void store_row(const float* values, std::int64_t n, const Tensor& t, std::int64_t offset) {
  visit_dtype(t.dtype, [&]<class Element>(Element) { store_row(values, n, t.data_as<Element>() + offset); });
}

}  // namespace flashladder::reference
