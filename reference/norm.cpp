#include "reference/norm.hpp"

#include <cmath>

#include "core/op_checks.hpp"
#include "reference/element_io.hpp"
#include "reference/kept.hpp"
#include "reference/row_sum.hpp"
#include "reference/store_quantised.hpp"

namespace flashladder::reference {
namespace {

using Row = std::span<float>;  // [d]

// What is added to the weight. -0 leaves any number as it is, -0 too.
constexpr double nothing = -0.0, one = 1;

// x becomes its norm.
void normalise(Row x, Row weight, double added, float eps) {
  const double squares = row_sum(x, [](double value) { return value * value; });
  const double mean = squares / static_cast<double>(x.size()) + double{eps};
  const double scale = mean == 0 ? 0 : 1 / std::sqrt(mean);  // a NaN mean stays NaN
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(double{x[i]} * scale * (added + double{weight[i]}));
}

Row load_weight(const ConstTensor& weight) {
  const Row w = kept<float, struct Weight>(weight.shape[0]);
  load_row(weight, 0, weight.shape[0], w.data());
  return w;
}

// Calls row(i, h) of each row that is normalised, all of them [n, num_heads, d].
template <class F>
void each_row(const ConstTensor& rows, F&& row) {
  if (rows.size() == 0) return;  // any number of rows without heads
  for (std::int64_t i = 0; i < rows.shape[0]; ++i) {
    for (std::int64_t h = 0; h < rows.shape[1]; ++h) row(i, h);
  }
}

// All rows of input, normalised, to store(x, offset in out).
template <class Store>
void norm(const ConstTensor& input, const ConstTensor& weight, double added, const Tensor& out, float eps, Store&& store) {
  const ConstTensor from = with_heads(input);
  const Tensor to = with_heads(out);
  const std::int64_t d = from.shape[2];
  const Row w = load_weight(weight), x = kept<float, struct Normalised>(d);
  each_row(from, [&](std::int64_t i, std::int64_t h) {
    load_row(from, i * from.strides[0] + h * from.strides[1], d, x.data());
    normalise(x, w, added, eps);
    store(x, to, i * to.strides[0] + h * to.strides[1]);
  });
}

void norm(const ConstTensor& input, const ConstTensor& weight, double added, const Tensor& out, float eps) {
  check_rmsnorm(input, weight, out, eps);
  norm(input, weight, added, out, eps, [](Row x, const Tensor& to, std::int64_t offset) {
    store_row(x.data(), static_cast<std::int64_t>(x.size()), to, offset);
  });
}

// residual becomes the sum; its norm, of the sum before it was rounded, goes to store(x, row).
template <class Store>
void add_and_norm(const ConstTensor& input, const Tensor& residual, const ConstTensor& weight, double added, float eps,
                  Store&& store) {
  const std::int64_t d = input.shape[1];
  const Row w = load_weight(weight), t = kept<float, struct Sum>(d), r = kept<float, struct Residual>(d);
  for (std::int64_t i = 0; i < input.shape[0]; ++i) {
    load_row(input, i * input.strides[0], d, t.data());
    load_row(residual, i * residual.strides[0], d, r.data());
    for (std::size_t x = 0; x < t.size(); ++x) t[x] += r[x];
    store_row(t.data(), d, residual, i * residual.strides[0]);
    normalise(t, w, added, eps);
    store(t, i);
  }
}

void fused_add_norm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, double added, float eps) {
  check_fused_add_rmsnorm(input, residual, weight, eps);
  add_and_norm(input, residual, weight, added, eps, [&](Row x, std::int64_t i) {
    store_row(x.data(), static_cast<std::int64_t>(x.size()), input, i * input.strides[0]);
  });
}

}  // namespace

void rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps) {
  norm(input, weight, nothing, out, eps);
}
void fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps) {
  fused_add_norm(input, residual, weight, nothing, eps);
}

void rmsnorm_quant(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, const QuantScale& scale,
                   float eps) {
  check_rmsnorm_quant(input, weight, out, scale, eps);
  norm(input, weight, nothing, out, eps, [s = checked_scale(scale)](Row x, const Tensor& to, std::int64_t offset) {
    store_quantised(x, s, to, offset);
  });
}
void fused_add_rmsnorm_quant(const ConstTensor& input, const Tensor& residual, const ConstTensor& weight, const Tensor& out,
                             const QuantScale& scale, float eps) {
  check_fused_add_rmsnorm_quant(input, residual, weight, out, scale, eps);
  add_and_norm(input, residual, weight, nothing, eps, [&, s = checked_scale(scale)](Row x, std::int64_t i) {
    store_quantised(x, s, out, i * out.strides[0]);
  });
}

void gemma_rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps) {
  norm(input, weight, one, out, eps);
}
void gemma_fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps) {
  fused_add_norm(input, residual, weight, one, eps);
}

}  // namespace flashladder::reference
