#include "ladder/tolerance.hpp"

#include <algorithm>
#include <cmath>

#include "core/score_transform.hpp"
#include "core/softmax_state.hpp"
#include "core/tensor.hpp"
#include "core/visibility.hpp"
#include "reference/gather.hpp"

namespace flashladder::ladder {
namespace {

using reference::Matrix;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double u = 0x1p-24;
static_assert(u == unit_roundoff(DType::f32));

// In double: the square of a large float is no float.
double norm(const Matrix<float>& m, Eigen::Index row) { return m.row(row).cast<double>().norm(); }

// The hull of the values of some keys, feature by feature, and the largest norm of the keys.
struct Hull {
  Eigen::RowVectorXf low, high;
  double key_norm = 0;
  bool finite = true;
  std::int32_t first = -1, last = -1;

  void add(const Matrix<float>& v, double k_norm, std::int32_t j) {
    if (first < 0) {
      first = j;
      low = high = v.row(j);
    }
    last = j;
    low = low.cwiseMin(v.row(j));
    high = high.cwiseMax(v.row(j));
    key_norm = std::max(key_norm, k_norm);
    finite = finite && std::isfinite(k_norm) && v.row(j).allFinite();
  }

  // With a sink, 0 is a value too.
  Seen seen(bool zero_too, double v_scale) const {
    if (first < 0) return {};
    if (!finite) return {nan, nan, nan, last - first + 1};
    const double largest = std::max(std::abs(double{low.minCoeff()}), std::abs(double{high.maxCoeff()}));
    const Eigen::RowVectorXd below = low.cast<double>(), above = high.cast<double>();
    const double spread = zero_too ? (above.cwiseMax(0) - below.cwiseMin(0)).maxCoeff() : (above - below).maxCoeff();
    return {key_norm, v_scale * largest, v_scale * spread, last - first + 1};
  }
};

}  // namespace

std::vector<Seen> seen_by_rows(const AttentionProblem& problem, std::int32_t request, std::int32_t kv_head,
                               std::int64_t mask_offset) {
  const AttentionParams& p = problem.params;
  const std::int32_t qo_len = problem.qo_len(request), kv_len = problem.kv_len(request);
  const std::uint8_t* mask = p.mask == MaskMode::custom ? problem.custom_mask.data() + mask_offset : nullptr;
  std::vector<Seen> rows;
  if (qo_len == 0) return rows;
  const Range keys = visible_keys(p, qo_len, kv_len, Range{0, qo_len});  // of all rows
  Matrix<float> k, v;
  reference::load_keys(problem, request, kv_head, keys, k);
  reference::load_values(problem, request, kv_head, keys, v);
  std::vector<double> norms(keys.size());
  for (std::int32_t j = 0; j < keys.size(); ++j) norms[j] = norm(k, j);

  Hull hull;
  Range absorbed;  // keys of the hull, where it can go on from the row before
  for (std::int32_t i = 0; i < qo_len; ++i) {
    const Range seen = visible_keys(p, qo_len, kv_len, i);
    if (mask != nullptr || seen.begin != absorbed.begin || seen.end < absorbed.end) {
      hull = {};
      absorbed = {seen.begin, seen.begin};
    }
    for (std::int32_t j = absorbed.end; j < seen.end; ++j) {
      if (mask == nullptr || mask[std::int64_t{i} * kv_len + j] != 0) hull.add(v, norms[j - keys.begin], j - keys.begin);
    }
    absorbed = seen;
    rows.push_back(hull.seen(p.sinks, problem.scales.v_of(kv_head)));
  }
  return rows;
}

double score_bound(const AttentionProblem& problem, std::int32_t request, reference::RowId id, const Seen& seen) {
  Matrix<float> q;
  reference::load_queries(problem, request, {&id, 1}, q);
  const float k_scale = problem.scales.k_of(id.head / problem.params.group_size());
  return double{problem.params.sm_scale} * k_scale * norm(q, 0) * seen.key_norm;
}

RowTolerance floor_of_row(const AttentionProblem& problem, std::int32_t request, reference::RowId id, const Seen& seen,
                          KnownRow known, std::int64_t mask_offset) {
  const AttentionParams& p = problem.params;
  const double sink = p.sinks ? SoftmaxState<double>::from_sink(problem.sinks[id.head]).m : SoftmaxState<double>::nothing;
  const double sink_size = std::isfinite(sink) ? std::abs(sink) : 0;
  if (seen.keys == 0) return {0, 4 * u * sink_size, 0, std::max(1.0, sink_size)};  // o = 0, and lse_log2 is the sink
  const double n = score_bound(problem, request, id, seen);
  const ScoreTransform<double> transform(p, id.head);
  const std::uint8_t* mask = p.mask == MaskMode::custom ? problem.custom_mask.data() + mask_offset : nullptr;
  const std::int32_t origin = alibi_origin(p, problem.qo_len(request), problem.kv_len(request), id.query, mask);
  const double constant = transform.row_constant(id.query, origin);
  const double capped = p.logits_soft_cap > 0 ? std::min<double>(n, p.logits_soft_cap) : n;
  const double logits = log2_e * (n + std::min(transform.slope * (seen.keys - 1.0), 2 * capped + 1));
  const double lse = std::isfinite(known.lse_log2) ? std::abs(known.lse_log2 - constant) : logits + std::log2(seen.keys);

  const KvScales& s = problem.scales;
  const int of_scales = s.k != 1 || s.v != 1 || !s.k_per_head.empty() || !s.v_per_head.empty() ? 1 : 0;
  const double ku = (4 + of_scales + 4.0 / 3 * std::sqrt(p.head_dim_qk)) * u;
  double weights = ku * (1 + logits) + 3 * u * std::max(0.0, lse - logits);  // how far they may be off, relatively
  RowTolerance row;
  row.lse_log2 = weights + 4 * u * std::abs(constant);
  // The sink is compared with the keys at the size of both; further apart, one of them weighs nothing in float.
  if (sink - constant >= -logits - 32) row.lse_log2 += 4 * u * sink_size;
  if (std::isfinite(sink) && std::abs(sink - constant) <= logits + 32) weights += 4 * u * (std::abs(constant) + sink_size);
  const double moved = std::max(weights, std::exp2(2 * weights) - std::exp2(weights));
  row.o = (known.deviation == 0 ? 0 : moved * known.deviation) + ku * seen.value_max;
  row.o_reach = seen.spread > 0 ? seen.spread : seen.value_max;
  row.lse_reach = 1;
  return row;
}

}  // namespace flashladder::ladder
