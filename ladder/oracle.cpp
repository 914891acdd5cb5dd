#include "ladder/oracle.hpp"

#include <algorithm>
#include <cmath>

#include "core/softmax_state.hpp"
#include "reference/c0_naive.hpp"
#include "reference/gather.hpp"
#include "reference/thread_pool.hpp"

namespace flashladder::ladder {
namespace {

using reference::c0::HeadResult;
using reference::c0::naive_head;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// |a - b|, where equal infinities differ by nothing, and NaN stays NaN.
double distance(double a, double b) { return a == b ? 0 : std::abs(a - b); }
double worse(double a, double b) { return a > b || std::isnan(a) ? a : b; }  // NaN is worst
// How far weights are off, relatively, where logits (natural units) are off by r: nearly r, while it is small.
double moved(double r) { return std::exp(2 * r) - std::exp(r); }

// What row i loses where its weights, and p v, are added in float, in chains of so many keys (tolerance.hpp).
// v [kv_len, head_dim_vo], as it is stored
struct Lost {
  double o, lse_log2;
};
Lost lost_in_chains(const HeadResult<double>& exact, Eigen::Index i, const reference::Matrix<float>& v, double v_scale,
                    std::int32_t chain) {
  const auto p = exact.p.row(i);
  const Eigen::Index keys = p.size();
  Eigen::Index heaviest = 0;
  p.maxCoeff(&heaviest);
  float d = 0;
  Eigen::RowVectorXf o = Eigen::RowVectorXf::Zero(v.cols()), sum(v.cols());
  for (Eigen::Index first = 0, end = 0; first < keys; first = end) {
    end = first + std::min<Eigen::Index>(chain, keys - first);
    float sum_d = 0;
    sum.setZero();
    for (Eigen::Index j = first; j < end; ++j) {
      const Eigen::Index key = heaviest + j < keys ? heaviest + j : heaviest + j - keys;
      const auto weight = static_cast<float>(p[key]);
      sum_d += weight;
      sum += weight * v.row(key);
    }
    d += sum_d;
    o += sum;
  }
  const double share = exact.scale[i], lost = share * std::abs(d - p.sum());
  const Eigen::RowVectorXd off =
      (o.cast<double>() * (share * v_scale) - exact.o.row(i)).cwiseAbs() + lost * exact.o.row(i).cwiseAbs();
  return {off.maxCoeff(), lost * log2_e};
}

class Maker {
 public:
  Maker(const Case& c, Rounding rounding, const HeadFilter& wanted)
      : problem_(c.problem()), p_(problem_.params), rounding_(rounding), wanted_(wanted), offsets_(mask_offsets(problem_)) {
    const std::int64_t rows = problem_.q.shape[0] * p_.num_qo_heads;
    oracle_ = {std::vector<double>(rows * p_.head_dim_vo, nan), std::vector<double>(rows, nan),
               std::vector<RowTolerance>(rows)};
  }

  // Of each row of one (request, KV head).
  std::vector<Seen> seen(std::int32_t b, std::int32_t kv_head) const {
    return seen_by_rows(problem_, b, kv_head, offsets_[b]);
  }

  // All rows of one (request, query head), whose KV head's rows see this. Writes no place that another pair writes.
  void make(std::int32_t b, std::int32_t h, const std::vector<Seen>& seen) {
    if (!wanted_ || wanted_(b, h)) {
      compute(b, h, seen);
    } else {
      estimate(b, h, seen);
    }
  }

  Oracle take() { return std::move(oracle_); }

 private:
  std::int64_t row_of(std::int32_t b, std::int32_t i, std::int32_t h) const {
    return (std::int64_t{problem_.qo_indptr[b]} + i) * p_.num_qo_heads + h;
  }
  // Four deviations of what rounding P makes of a sum of p v; deviation: sqrt(sum p^2 v^2).
  double p_rounding(double deviation) const {
    return rounding_.p == DType::f32 ? 0 : 4 / std::sqrt(3.0) * unit_roundoff(rounding_.p) * deviation;
  }

  bool rounds_rotated() const {
    return rounding_.p != DType::f32 && p_.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA;
  }
  // r, of a row whose sm_scale * R is this (tolerance.hpp).
  double rotated_rounding(double scaled) const {
    return rounds_rotated() ? 4 * std::sqrt(2.0 / 3) * unit_roundoff(rounding_.p) * scaled : 0;
  }
  // sm_scale * R of each row.
  reference::Vector<double> scaled_by_weights(std::int32_t b, std::int32_t h, const HeadResult<double>& exact) const {
    if (!rounds_rotated()) return reference::Vector<double>::Zero(exact.p.rows());
    reference::Matrix<double> q, k;
    reference::load_queries(problem_, b, reference::rows_of_head(h, {0, problem_.qo_len(b)}), q);
    reference::load_keys(problem_, b, h / p_.group_size(), {0, problem_.kv_len(b)}, k);
    const reference::Matrix<double> squares = q.cwiseAbs2() * k.cwiseAbs2().transpose();  // sum q^2 k^2  [qo_len, kv_len]
    // A key that a row does not see may be NaN.
    const auto weighted = (exact.p.array() > 0).select(exact.p.array() * squares.array(), 0).rowwise().sum();
    return double{p_.sm_scale} * problem_.scales.k_of(h / p_.group_size()) * (weighted * exact.scale.array()).sqrt().matrix();
  }

  RowTolerance floor(std::int32_t b, reference::RowId id, const Seen& seen, KnownRow known) const {
    RowTolerance row = floor_of_row(problem_, b, id, seen, known, offsets_[b]);
    const int cut_off = rounding_.p == DType::f32 ? 1 : 2;  // what a tensor core loses against u
    row.o *= cut_off;
    row.lse_log2 *= cut_off;
    return row;
  }

  // Nobody computes the answer: such a row is compared with another rung's, and then twice the tolerance is allowed
  // (agree.hpp), which has to be less than what a wrong answer differs by.
  void estimate(std::int32_t b, std::int32_t h, const std::vector<Seen>& seen) {
    for (std::int32_t i = 0; i < problem_.qo_len(b); ++i) {
      RowTolerance& row = oracle_.tolerance[row_of(b, i, h)];
      row = floor(b, {i, h}, seen[i], {seen[i].spread / 2, nan});
      const double r = rotated_rounding(rounds_rotated() ? score_bound(problem_, b, {i, h}, seen[i]) : 0);
      row.o = 3 * row.o + p_rounding(1) * seen[i].value_max + moved(r) * seen[i].spread / 2;
      row.lse_log2 = 3 * row.lse_log2 + log2_e * r;
      row.o_reach /= 2;
      row.lse_reach /= 2;
    }
  }

  void compute(std::int32_t b, std::int32_t h, const std::vector<Seen>& seen) {
    const HeadResult<double> exact = naive_head<double>(problem_, b, h, offsets_[b]);
    const reference::Vector<double> scaled = scaled_by_weights(b, h, exact);
    const HeadResult<float> naive = naive_head<float>(problem_, b, h, offsets_[b], rounding_.p);
    reference::Matrix<float> v;
    reference::load_values(problem_, b, h / p_.group_size(), {0, problem_.kv_len(b)}, v);
    // A row that sees a value that is not finite has no tolerance anyway; for the others it has to be out of the way.
    v = v.unaryExpr([](float x) { return std::isfinite(x) ? x : 0; });
    reference::Matrix<double> rounding;
    const double v_scale = problem_.scales.v_of(h / p_.group_size());
    const reference::Matrix<double> v_squared = (v.cast<double>() * v_scale).cwiseAbs2();
    const reference::Matrix<double> squares = exact.p * v_squared;                  // sum p v^2    [qo_len, head_dim_vo]
    if (rounding_.p != DType::f32) rounding = exact.p.cwiseAbs2() * v_squared;      // sum p^2 v^2  [qo_len, head_dim_vo]
    for (std::int32_t i = 0; i < problem_.qo_len(b); ++i) {
      const std::int64_t row = row_of(b, i, h);
      double error = 0, deviation = 0, largest = 0, rounded_p = 0;
      for (std::int32_t d = 0; d < p_.head_dim_vo; ++d) {
        const double o = oracle_.o[row * p_.head_dim_vo + d] = exact.o(i, d);
        error = worse(error, 2 * distance(naive.o(i, d), o));
        if (rounding.size() > 0) rounded_p = worse(rounded_p, p_rounding(std::sqrt(rounding(i, d)) * exact.scale[i]));
        deviation = worse(deviation, std::sqrt(std::max(0.0, squares(i, d) * exact.scale[i] - o * o)));
        largest = worse(largest, std::abs(o));
      }
      const double lse = oracle_.lse_log2[row] = exact.lse_log2[i];
      const double r = rotated_rounding(scaled[i]);
      error = worse(error, std::hypot(rounded_p, r == 0 ? 0 : moved(r) * deviation));
      double lse_error = worse(2 * distance(naive.lse_log2[i], lse), log2_e * r);
      if (rounding_.chain > 0 && exact.scale[i] > 0) {
        const Lost lost = lost_in_chains(exact, i, v, v_scale, rounding_.chain);
        error = worse(error, 2 * lost.o);
        lse_error = worse(lse_error, 2 * lost.lse_log2);
      }
      RowTolerance& t = oracle_.tolerance[row];
      t = floor(b, {i, h}, seen[i], {deviation, lse});
      t.o += error;
      t.lse_log2 += lse_error;
      t.o_reach = std::min(t.o_reach, std::max(largest, t.o_reach / 64));
      if (std::isfinite(lse)) t.lse_reach = std::max(t.lse_reach, std::abs(lse));
    }
  }

  const AttentionProblem problem_;
  const AttentionParams& p_;
  const Rounding rounding_;
  const HeadFilter& wanted_;
  const std::vector<std::int64_t> offsets_;
  Oracle oracle_;
};

// Elements that are looked at, roughly: below, threads take longer to start than to help.
bool is_large(const CaseSpec& spec) {
  const double dims = spec.params.head_dim_qk + spec.params.head_dim_vo;
  return static_cast<double>(spec.mask_bytes() + spec.total_kv()) * dims * spec.params.num_qo_heads > 1e7;
}

}  // namespace

Oracle make_oracle(const Case& c, Rounding rounding, const HeadFilter& wanted) {
  Maker maker(c, rounding, wanted);
  reference::ThreadPool pool(is_large(c.spec) ? reference::ThreadPool::hardware_threads() : 1);
  const std::int32_t kv_heads = c.spec.params.num_kv_heads, heads = c.spec.params.num_qo_heads, group = heads / kv_heads;
  std::vector<std::vector<Seen>> seen(static_cast<std::size_t>(c.spec.batch()) * static_cast<std::size_t>(kv_heads));
  pool.claim(std::ssize(seen), pool.size(), [&](std::int32_t i, int) { seen[i] = maker.seen(i / kv_heads, i % kv_heads); });
  // By query heads: many may share a request's only KV head.
  pool.claim(std::int64_t{c.spec.batch()} * heads, pool.size(),
             [&](std::int32_t i, int) { maker.make(i / heads, i % heads, seen[i / group]); });
  return maker.take();
}

}  // namespace flashladder::ladder
