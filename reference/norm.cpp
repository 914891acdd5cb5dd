#include "reference/norm.hpp"

#include <Eigen/Core>

#include <cmath>

#include "core/checks.hpp"
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

void check_weight(const Tensor& weight, const Tensor& input, float eps) {
  check_tensor("weight", weight, "[d]", {input.shape[input.rank - 1]});
  check_dtype("weight", weight, input.dtype, "must have the dtype of input");
  require(std::isfinite(eps) && eps >= 0, "eps", eps, "must be finite and not negative");
}

// [n, d] as [n, 1, d].
Tensor with_heads(const Tensor& t) {
  if (t.rank == 3) return t;
  return {.data = t.data, .dtype = t.dtype, .rank = 3, .shape = {t.shape[0], 1, t.shape[1]},
          .strides = {t.strides[0], 0, t.strides[1]}};
}

}  // namespace

void rmsnorm(const Tensor& input, const Tensor& weight, const Tensor& out, float eps) {
  const bool heads = input.rank == 3;
  const char* form = heads ? "[n, num_heads, d]" : "[n, d]";
  if (heads) {
    check_tensor("input", input, form, {any_size, any_size, any_size});
    check_output("out", out, form, {input.shape[0], input.shape[1], input.shape[2]});
  } else {
    check_tensor("input", input, form, {any_size, any_size});
    check_output("out", out, form, {input.shape[0], input.shape[1]});
  }
  check_dtype("out", out, input.dtype, "must have the dtype of input");
  check_weight(weight, input, eps);

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
  check_output("input", input, "[n, d]", {any_size, any_size});
  check_output("residual", residual, "[n, d]", {input.shape[0], input.shape[1]});
  check_dtype("residual", residual, input.dtype, "must have the dtype of input");
  check_distinct("residual", residual, input, "is written, as input is: they must be two tensors");
  check_weight(weight, input, eps);

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
