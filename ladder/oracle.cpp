#include "ladder/oracle.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/score_transform.hpp"
#include "reference/c0_naive.hpp"
#include "reference/gather.hpp"

namespace flashladder::ladder {
namespace {

using reference::c0::HeadResult;
using reference::c0::naive_head;

// k of the header.
double roundings(std::int32_t head_dim_qk) { return 4 + 4.0 / 3 * std::sqrt(head_dim_qk); }

// Bounds of one (request, query head): |logit| in log2 units, |v|.
struct Bounds {
  double logit = 0, v = 0;
};

Bounds bounds(const AttentionProblem& problem, std::int32_t request, std::int32_t qo_head) {
  const AttentionParams& p = problem.params;
  const std::int32_t qo_len = problem.qo_len(request), kv_len = problem.kv_len(request);
  if (qo_len == 0 || kv_len == 0) return {};
  reference::Matrix<float> q, k, v;
  reference::load_queries(problem, request, reference::rows_of_head(qo_head, {0, qo_len}), q);
  reference::load_keys(problem, request, qo_head / p.group_size(), {0, kv_len}, k);
  reference::load_values(problem, request, qo_head / p.group_size(), {0, kv_len}, v);
  const double norms = double{q.rowwise().norm().maxCoeff()} * k.rowwise().norm().maxCoeff();
  const double slope = ScoreTransform<double>(p, qo_head).slope;
  return {(norms * p.sm_scale + slope * std::max(qo_len, kv_len)) * log2_e, v.cwiseAbs().maxCoeff()};
}

// |a - b|, where equal infinities differ by nothing.
double distance(double a, double b) { return a == b ? 0 : std::abs(a - b); }

void absorb_naive_error(const HeadResult<float>& naive, const HeadResult<double>& exact, Tolerance& error) {
  for (Eigen::Index i = 0; i < exact.o.rows(); ++i) {
    error.lse_log2 = std::max(error.lse_log2, distance(naive.lse_log2[i], exact.lse_log2[i]));
    for (Eigen::Index c = 0; c < exact.o.cols(); ++c) error.o = std::max(error.o, distance(naive.o(i, c), exact.o(i, c)));
  }
}

}  // namespace

Oracle make_oracle(const Case& c, DType p_dtype, const HeadFilter& wanted) {
  const AttentionProblem problem = c.problem();
  const AttentionParams& p = problem.params;
  const std::int64_t rows = problem.q.shape[0] * p.num_qo_heads;
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  Oracle oracle{std::vector<double>(rows * p.head_dim_vo, nan), std::vector<double>(rows, nan), {}};
  const auto offsets = mask_offsets(problem);
  Tolerance naive_error;
  Bounds most;
  for (std::int32_t b = 0; b < problem.batch(); ++b) {
    for (std::int32_t h = 0; h < p.num_qo_heads; ++h) {
      if (wanted && !wanted(b, h)) continue;
      const auto exact = naive_head<double>(problem, b, h, offsets[b]);
      absorb_naive_error(naive_head<float>(problem, b, h, offsets[b], p_dtype), exact, naive_error);
      const Bounds here = bounds(problem, b, h);
      most = {std::max(most.logit, here.logit), std::max(most.v, here.v)};
      for (std::int32_t i = 0; i < problem.qo_len(b); ++i) {
        const std::int64_t row = (std::int64_t{problem.qo_indptr[b]} + i) * p.num_qo_heads + h;
        oracle.lse_log2[row] = exact.lse_log2[i];
        std::copy_n(exact.o.row(i).data(), p.head_dim_vo, oracle.o.begin() + row * p.head_dim_vo);
      }
    }
  }
  const double floor = roundings(p.head_dim_qk) * unit_roundoff(DType::f32) * (1 + most.logit);
  oracle.tolerance = {2 * naive_error.o + 2 * floor * most.v, 2 * naive_error.lse_log2 + floor};
  return oracle;
}

}  // namespace flashladder::ladder
