#include "reference/norm.hpp"

#include <Eigen/Core>

#include <cmath>

#include "core/op_checks.hpp"
#include "reference/element_io.hpp"

namespace flashladder::reference {
namespace {

// Eigen's arrays are aligned alike in every run, so their sums are formed in the same order: same input, same bits.
using Row = Eigen::ArrayXf;  // [d]

Row normalised(const Row& x, const Row& weight, float eps) {
  return x * (1.0f / std::sqrt(x.square().mean() + eps)) * weight;
}

Row load_weight(const Tensor& weight) {
  Row w(weight.shape[0]);
  load_row(weight, 0, w.size(), w.data());
  return w;
}

}  // namespace

void rmsnorm(const Tensor& input, const Tensor& weight, const Tensor& out, float eps) {
  check_rmsnorm(input, weight, out, eps);
  const Tensor from = with_heads(input), to = with_heads(out);
  const Row w = load_weight(weight);
  Row x(w.size());
  for (std::int64_t i = 0; i < from.shape[0]; ++i) {
    for (std::int64_t h = 0; h < from.shape[1]; ++h) {
      load_row(from, i * from.strides[0] + h * from.strides[1], x.size(), x.data());
      const Row y = normalised(x, w, eps);
      store_row(y.data(), y.size(), to, i * to.strides[0] + h * to.strides[1]);
    }
  }
}

void fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const Tensor& weight, float eps) {
  check_fused_add_rmsnorm(input, residual, weight, eps);
  const Row w = load_weight(weight);
  Row x(w.size()), r(w.size());
  for (std::int64_t i = 0; i < input.shape[0]; ++i) {
    load_row(input, i * input.strides[0], x.size(), x.data());
    load_row(residual, i * residual.strides[0], r.size(), r.data());
    const Row t = x + r;
    store_row(t.data(), t.size(), residual, i * residual.strides[0]);
    const Row y = normalised(t, w, eps);
    store_row(y.data(), y.size(), input, i * input.strides[0]);
  }
}

}  // namespace flashladder::reference
