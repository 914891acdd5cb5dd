// A Tensor erases the element type at the borders of the library: data pointer, dtype, shape, strides (in elements).
// It borrows; who made the buffer owns it. Rungs turn it back into typed pointers with data_as<T>().
// A ConstTensor is one that can only be read, such as weights: every input of an operation is one. A Tensor converts to it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "core/error.hpp"
#include "core/float8.hpp"
#include "core/half.hpp"
#include "core/host_device.hpp"

namespace flashladder {

enum class DType : std::uint8_t { f32, f16, bf16, f64, i32, u8, f8_e4m3, f8_e5m2 };

constexpr bool is_dtype(DType t) { return t <= DType::f8_e5m2; }  // a cast may have made any other number
constexpr std::size_t size_of(DType t) {
  constexpr std::size_t bytes[] = {4, 2, 2, 8, 4, 1, 1, 1};
  return is_dtype(t) ? bytes[static_cast<std::size_t>(t)] : 0;
}
constexpr const char* name_of(DType t) {
  constexpr const char* names[] = {"f32", "f16", "bf16", "f64", "i32", "u8", "f8_e4m3", "f8_e5m2"};
  return is_dtype(t) ? names[static_cast<std::size_t>(t)] : "unknown";
}
constexpr bool is_attention_dtype(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16; }
// What only K and V may have, with scales (KvScales), and what a norm may write.
constexpr bool is_fp8(DType t) { return t == DType::f8_e4m3 || t == DType::f8_e5m2; }
constexpr bool is_cache_dtype(DType t) { return is_attention_dtype(t) || is_fp8(t); }
inline constexpr const char* cache_dtype_rule = "must be f32, f16, bf16, f8_e4m3 or f8_e5m2";

// Unit roundoff u: the largest relative error of one rounding to nearest in t. (Higham, Accuracy and Stability, 2.2)
constexpr double unit_roundoff(DType t) {
  return t == DType::f64       ? 0x1p-53
         : t == DType::f32     ? 0x1p-24
         : t == DType::f16     ? 0x1p-11
         : t == DType::bf16    ? 0x1p-8
         : t == DType::f8_e4m3 ? 0x1p-4
                               : 0x1p-3;
}

// Of a wrong shape the product may not fit: it wraps, and the checks, which multiply in double, refuse the tensor.
constexpr std::int64_t wrapping_product(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
}

template <class Void>  // void or const void
struct BasicTensor {
  static constexpr int max_rank = 5;

  Void* data = nullptr;
  DType dtype = DType::f32;
  int rank = 0;
  std::array<std::int64_t, max_rank> shape{};
  std::array<std::int64_t, max_rank> strides{};  // in elements; of a dimension of size 1 it has no meaning

  constexpr std::int64_t size() const {
    std::int64_t n = 1;
    for (std::size_t i = 0; i < static_cast<std::size_t>(rank); ++i) n = wrapping_product(n, shape[i]);
    return n;
  }
  template <class T>  // of a ConstTensor: a const one
  constexpr T* data_as() const {
    return static_cast<T*>(data);
  }
  template <class To>
    requires(std::is_same_v<To, const void> && !std::is_const_v<Void>)
  constexpr operator BasicTensor<To>() const {
    return {data, dtype, rank, shape, strides};
  }
};
using Tensor = BasicTensor<void>;
using ConstTensor = BasicTensor<const void>;

// A tensor over data whose dimension i steps over strides[i] elements: a slice of a fused QKV tensor, a view into a cache.
// Throws InputError for more than five dimensions, or another number of strides.
template <class Void>
constexpr BasicTensor<Void> strided_tensor(Void* data, DType dtype, std::initializer_list<std::int64_t> shape,
                                           std::initializer_list<std::int64_t> strides) {
  BasicTensor<Void> t{.data = data, .dtype = dtype, .rank = static_cast<int>(shape.size())};
  if (shape.size() > t.shape.size()) throw InputError("shape", std::to_string(shape.size()) + " sizes", "must be at most 5");
  if (strides.size() != shape.size()) {
    throw InputError("strides", std::to_string(strides.size()) + " strides", "must be one for each size of shape");
  }
  for (std::size_t i = 0; i < shape.size(); ++i) {
    t.shape[i] = shape.begin()[i];
    t.strides[i] = strides.begin()[i];
  }
  return t;
}
constexpr Tensor strided(void* data, DType dtype, std::initializer_list<std::int64_t> shape,
                         std::initializer_list<std::int64_t> strides) {
  return strided_tensor(data, dtype, shape, strides);
}
constexpr ConstTensor strided(const void* data, DType dtype, std::initializer_list<std::int64_t> shape,
                              std::initializer_list<std::int64_t> strides) {
  return strided_tensor(data, dtype, shape, strides);
}

// A dense row-major tensor over data: every dimension steps over all that lies inside it.
template <class Void>
constexpr BasicTensor<Void> contiguous_tensor(Void* data, DType dtype, std::initializer_list<std::int64_t> shape) {
  BasicTensor<Void> t = strided_tensor(data, dtype, shape, shape);
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    t.strides[i] = stride;
    stride = wrapping_product(stride, t.shape[i]);
  }
  return t;
}
constexpr Tensor contiguous(void* data, DType dtype, std::initializer_list<std::int64_t> shape) {
  return contiguous_tensor(data, dtype, shape);
}
constexpr ConstTensor contiguous(const void* data, DType dtype, std::initializer_list<std::int64_t> shape) {
  return contiguous_tensor(data, dtype, shape);
}
// Without elements: some size is 0.
constexpr Tensor contiguous(std::nullptr_t, DType dtype, std::initializer_list<std::int64_t> shape) {
  return contiguous(static_cast<void*>(nullptr), dtype, shape);
}

}  // namespace flashladder
