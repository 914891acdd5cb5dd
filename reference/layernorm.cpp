#include "reference/layernorm.hpp"

#include <cmath>

#include "core/op_checks.hpp"
#include "reference/element_io.hpp"
#include "reference/kept.hpp"
#include "reference/row_sum.hpp"
#include "reference/store_quantised.hpp"

namespace flashladder::reference {
namespace {

using Row = std::span<float>;  // [d]

// x becomes its norm.
void normalise(Row x, Row gamma, Row beta, float eps) {
  const auto d = static_cast<double>(x.size());
  const double mean = row_sum(x, [](double value) { return value; }) / d;
  const double squares = row_sum(x, [&](double value) { return (value - mean) * (value - mean); });
  const double variance = squares / d + double{eps};
  const double scale = variance == 0 ? 0 : 1 / std::sqrt(variance);  // a NaN variance stays NaN
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>((double{x[i]} - mean) * scale * double{gamma[i]} + double{beta[i]});
  }
}

// All rows of input, normalised, to store(x, offset in out).
template <class Store>
void norm(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out, float eps,
          Store&& store) {
  if (out.size() == 0) return;  // any number of rows without heads
  const ConstTensor from = with_heads(input);
  const Tensor to = with_heads(out);
  const std::int64_t d = from.shape[2];
  const Row g = kept<float, struct Gamma>(d), b = kept<float, struct Beta>(d), x = kept<float, struct Normalised>(d);
  load_row(gamma, 0, d, g.data());
  load_row(beta, 0, d, b.data());
  for (std::int64_t i = 0; i < from.shape[0]; ++i) {
    for (std::int64_t h = 0; h < from.shape[1]; ++h) {
      load_row(from, i * from.strides[0] + h * from.strides[1], d, x.data());
      normalise(x, g, b, eps);
      store(x, i * to.strides[0] + h * to.strides[1]);
    }
  }
}

}  // namespace

void layernorm(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out, float eps) {
  check_layernorm(input, gamma, beta, out, eps);
  norm(input, gamma, beta, out, eps, [&](Row x, std::int64_t offset) {
    store_row(x.data(), static_cast<std::int64_t>(x.size()), out, offset);
  });
}

void layernorm_quant(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
                     const QuantScale& scale, float eps) {
  check_layernorm_quant(input, gamma, beta, out, scale, eps);
  norm(input, gamma, beta, out, eps, [&, s = checked_scale(scale)](Row x, std::int64_t offset) {
    store_quantised(x, s, out, offset);
  });
}

}  // namespace flashladder::reference
