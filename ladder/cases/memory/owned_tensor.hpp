// A dense row-major tensor that owns its bytes. view() borrows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/tensor.hpp"

namespace flashladder::ladder {

struct OwnedTensor {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;  // at most Tensor::max_rank; {} with no bytes: there is no tensor
  std::vector<std::byte> bytes;

  OwnedTensor() = default;
  OwnedTensor(DType dtype_, std::vector<std::int64_t> shape_) : dtype(dtype_), shape(std::move(shape_)) {
    bytes.resize(static_cast<std::size_t>(size()) * size_of(dtype));
  }

  bool exists() const { return !shape.empty(); }
  std::int64_t size() const {
    std::int64_t n = 1;
    for (std::int64_t extent : shape) n *= extent;
    return shape.empty() ? 0 : n;
  }

  // The view of a const tensor is for readers: Tensor has one pointer type for both.
  Tensor view() const {
    Tensor t{.data = const_cast<std::byte*>(bytes.data()), .dtype = dtype, .rank = static_cast<int>(shape.size())};
    std::int64_t stride = 1;
    for (int i = t.rank - 1; i >= 0; --i) {
      t.shape[i] = shape[i];
      t.strides[i] = stride;
      stride *= shape[i];
    }
    return t;
  }

  friend bool operator==(const OwnedTensor&, const OwnedTensor&) = default;  // bit by bit: a NaN equals itself
};

}  // namespace flashladder::ladder
