// What the tests of the ops share: strided tensors whose padding is watched, rounding written another way than core's,
// and a check that a call refuses with the right argument and leaves all bytes alone.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/tensor.hpp"

namespace ops_test {

using flashladder::DType;
using flashladder::Tensor;

inline constexpr DType all_dtypes[] = {DType::f32, DType::f16, DType::bf16};

// A tensor with `pad` unused elements after every row (and after every block of rows). It begins as 0xff bytes: a NaN in
// each dtype. Elements are numbered row-major, without the padding.
class Padded {
 public:
  Padded(DType dtype, std::vector<std::int64_t> shape, std::int64_t pad = 3) {
    tensor_ = {.dtype = dtype, .rank = static_cast<int>(shape.size())};
    std::int64_t stride = 1;
    for (int i = tensor_.rank - 1; i >= 0; --i) {
      tensor_.shape[i] = shape[i];
      tensor_.strides[i] = stride;
      stride = stride * shape[i] + pad;
    }
    bytes_.assign(stride * flashladder::size_of(dtype), 0xff);
    tensor_.data = bytes_.data();
  }
  Padded(const Padded&) = delete;  // the tensor points into the bytes

  const Tensor& t() const { return tensor_; }
  std::int64_t size() const { return tensor_.size(); }
  const std::vector<unsigned char>& bytes() const { return bytes_; }

  double get(std::int64_t i) const {
    const std::int64_t o = offset(i);
    if (tensor_.dtype == DType::f32) return tensor_.data_as<float>()[o];
    if (tensor_.dtype == DType::f16) return static_cast<float>(tensor_.data_as<flashladder::Half>()[o]);
    if (tensor_.dtype == DType::f8_e4m3) return static_cast<float>(tensor_.data_as<flashladder::Float8E4M3>()[o]);
    if (tensor_.dtype == DType::f8_e5m2) return static_cast<float>(tensor_.data_as<flashladder::Float8E5M2>()[o]);
    return static_cast<float>(tensor_.data_as<flashladder::BFloat16>()[o]);
  }
  void set(std::int64_t i, double value) {
    const std::int64_t o = offset(i);
    const auto x = static_cast<float>(value);
    if (tensor_.dtype == DType::f32) tensor_.data_as<float>()[o] = x;
    if (tensor_.dtype == DType::f16) tensor_.data_as<flashladder::Half>()[o] = flashladder::Half(x);
    if (tensor_.dtype == DType::f8_e4m3) tensor_.data_as<flashladder::Float8E4M3>()[o] = flashladder::Float8E4M3(x);
    if (tensor_.dtype == DType::f8_e5m2) tensor_.data_as<flashladder::Float8E5M2>()[o] = flashladder::Float8E5M2(x);
    if (tensor_.dtype == DType::bf16) tensor_.data_as<flashladder::BFloat16>()[o] = flashladder::BFloat16(x);
  }
  void fill(std::mt19937& random, double low, double high) {
    std::uniform_real_distribution<double> any(low, high);
    for (std::int64_t i = 0; i < size(); ++i) set(i, any(random));
  }
  void copy(const Padded& other) { std::memcpy(bytes_.data(), other.bytes_.data(), bytes_.size()); }

  bool padding_untouched() const {
    const std::size_t bytes = flashladder::size_of(tensor_.dtype);
    std::vector<bool> used(bytes_.size(), false);
    for (std::int64_t i = 0; i < size(); ++i) std::fill_n(used.begin() + offset(i) * bytes, bytes, true);
    for (std::size_t b = 0; b < bytes_.size(); ++b) {
      if (!used[b] && bytes_[b] != 0xff) return false;
    }
    return true;
  }

 private:
  std::int64_t offset(std::int64_t i) const {
    std::int64_t o = 0;
    for (int d = tensor_.rank - 1; d >= 0; --d) {
      o += i % tensor_.shape[d] * tensor_.strides[d];
      i /= tensor_.shape[d];
    }
    return o;
  }

  Tensor tensor_;
  std::vector<unsigned char> bytes_;
};

// The spacing of dtype's numbers around x, and x rounded to nearest even in one step from double.
inline double spacing(DType dtype, double x) {
  const int digits = dtype == DType::f32 ? 24 : dtype == DType::f16 ? 11 : 8;
  const int smallest = dtype == DType::f16 ? -24 : dtype == DType::f32 ? -149 : -133;
  int exponent = 0;
  std::frexp(x, &exponent);
  return std::ldexp(1.0, std::max(exponent - digits, smallest));
}
inline double rounded(DType dtype, double x) {
  const double step = spacing(dtype, x);
  return std::nearbyint(x / step) * step;
}

// got is exact, rounded once into dtype, if float arithmetic was off by at most `slack` before: the only answer, unless
// the exact value is that close to the middle between two.
inline bool is_rounded_once(DType dtype, double got, double exact, double slack) {
  return got >= rounded(dtype, exact - slack) && got <= rounded(dtype, exact + slack);  // false for NaN
}

// call() must throw an InputError for this argument (and request), and must not have changed `watched`.
template <class Call>
void check_refused(const std::string& argument, std::initializer_list<const Padded*> watched, Call call, int request = -1) {
  std::vector<std::vector<unsigned char>> before;
  for (const Padded* p : watched) before.push_back(p->bytes());
  CAPTURE(argument);
  try {
    call();
    FAIL_CHECK("was accepted");
  } catch (const flashladder::InputError& error) {
    INFO(error.what());
    CHECK(error.argument == argument);
    CHECK(error.request == request);
    CHECK(!error.rule.empty());
    CHECK(!error.value.empty());
  }
  std::size_t i = 0;
  for (const Padded* p : watched) CHECK(p->bytes() == before[i++]);
}

}  // namespace ops_test
