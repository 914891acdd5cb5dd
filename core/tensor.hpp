// A Tensor erases the element type at the borders of the library: data pointer, dtype, shape, strides (in elements).
// It borrows; who made the buffer owns it. Rungs turn it back into typed pointers with data_as<T>().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "core/half.hpp"
#include "core/host_device.hpp"

namespace flashladder {

enum class DType : std::uint8_t { f32, f16, bf16, f64, i32, u8 };

constexpr std::size_t size_of(DType t) {
  constexpr std::size_t bytes[] = {4, 2, 2, 8, 4, 1};
  return bytes[static_cast<int>(t)];
}
constexpr const char* name_of(DType t) {
  constexpr const char* names[] = {"f32", "f16", "bf16", "f64", "i32", "u8"};
  return names[static_cast<int>(t)];
}
constexpr bool is_attention_dtype(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16; }

// Unit roundoff u: the largest relative error of one rounding to nearest in t. (Higham, Accuracy and Stability, 2.2)
constexpr double unit_roundoff(DType t) {
  return t == DType::f64 ? 0x1p-53 : t == DType::f32 ? 0x1p-24 : t == DType::f16 ? 0x1p-11 : 0x1p-8;
}

struct Tensor {
  static constexpr int max_rank = 5;

  void* data = nullptr;
  DType dtype = DType::f32;
  int rank = 0;
  std::array<std::int64_t, max_rank> shape{};
  std::array<std::int64_t, max_rank> strides{};  // in elements

  constexpr std::int64_t size() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= shape[i];
    return n;
  }
  template <class T>
  T* data_as() const {
    return static_cast<T*>(data);
  }
};

// A dense row-major tensor over data.
constexpr Tensor contiguous(void* data, DType dtype, std::initializer_list<std::int64_t> shape) {
  Tensor t{.data = data, .dtype = dtype, .rank = static_cast<int>(shape.size())};
  int i = 0;
  for (std::int64_t n : shape) t.shape[i++] = n;
  std::int64_t stride = 1;
  for (i = t.rank - 1; i >= 0; --i) {
    t.strides[i] = stride;
    stride *= t.shape[i];
  }
  return t;
}

}  // namespace flashladder
