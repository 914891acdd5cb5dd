#include "reference/mla/l0_naive.hpp"

#include "core/softmax_state.hpp"
#include "core/visibility.hpp"
#include "reference/mla/latents.hpp"

namespace flashladder::reference::l0 {
namespace {

using RowVector = Eigen::Matrix<double, 1, Eigen::Dynamic>;

// One row of o, and its lse_log2. q_nope [head_dim_ckv], q_pe [head_dim_kpe], and the latent rows that the query sees:
// c [keys, head_dim_ckv], pe [keys, head_dim_kpe].
template <class Q, class Latents>
double attend_row(const Q& q_nope, const Q& q_pe, const Latents& c, const Latents& pe, double sm_scale, RowVector& o) {
  o = RowVector::Zero(c.cols());
  if (c.rows() == 0) return SoftmaxState<double>::nothing;
  const RowVector s = (q_nope * c.transpose() + q_pe * pe.transpose()) * (sm_scale * log2_e);  // log2 units
  const double m = s.maxCoeff<Eigen::PropagateNaN>();
  const RowVector p = s.unaryExpr([m](double x) { return SoftmaxState<double>::weight(x, m); });
  const double d = p.sum();
  o = p * c / d;  // V is C
  return m + std::log2(d);
}

}  // namespace

void attend(const MlaProblem& problem, const AttentionOutput& output) {
  validate(problem, output);
  const MlaParams& params = problem.params;
  const std::int32_t dim = params.head_dim_ckv;
  const double scale = double{params.sm_scale} * problem.scales.k;
  Matrix<double> q, latents;
  RowVector o;
  for (std::int32_t b = 0; b < problem.batch(); ++b) {
    const std::int32_t qo_len = problem.qo_len(b), kv_len = problem.kv_len(b);
    load_latents(problem, b, {0, kv_len}, latents);
    for (std::int32_t h = 0; h < params.num_heads; ++h) {
      load_mla_queries(problem, b, rows_of_head(h, {0, qo_len}), q);
      for (std::int32_t i = 0; i < qo_len; ++i) {
        const auto seen = latents.topRows(visible_keys(params.attention(), qo_len, kv_len, i).end);
        const double lse_log2 = attend_row(q.row(i).head(dim), q.row(i).tail(params.head_dim_kpe), seen.leftCols(dim),
                                           seen.rightCols(params.head_dim_kpe), scale, o);
        const std::int64_t row = std::int64_t{problem.qo_indptr[b]} + i;
        float* out = output.o.data_as<float>() + row * output.o.strides[0] + h * output.o.strides[1];
        Eigen::Map<Eigen::RowVectorXf>(out, dim) = (o * double{problem.scales.v}).cast<float>();
        const std::span<float> lse = output.lse();
        if (!lse.empty()) lse[row * params.num_heads + h] = static_cast<float>(lse_log2) * output.lse_factor();
      }
    }
  }
}

}  // namespace flashladder::reference::l0
