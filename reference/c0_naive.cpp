#include "reference/c0_naive.hpp"

#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/score_transform.hpp"
#include "core/softmax_state.hpp"
#include "core/validate.hpp"
#include "core/visibility.hpp"
#include "reference/element_io.hpp"
#include "reference/gather.hpp"
#include "reference/query_tile.hpp"

namespace flashladder::reference::c0 {
namespace {

template <class T>
T round_to(DType dtype, T x) {
  return dtype == DType::f32 ? x
                             : visit_dtype(dtype, [x]<class Element>(Element) {
                                 return static_cast<T>(static_cast<float>(Element(static_cast<float>(x))));
                               });
}

template <class T>
void round_all(DType dtype, Matrix<T>& m) {
  if (dtype != DType::f32) m = m.unaryExpr([dtype](T x) { return round_to(dtype, x); }).eval();
}

// What row i of one head makes of its dot products.
template <class T>
struct RowRule {
  const AttentionParams& p;
  const ScoreTransform<T>& transform;
  std::int32_t qo_len, kv_len, i, origin;  // ALiBi is reckoned from key `origin` (core/score_transform.hpp)
  const std::uint8_t* mask;

  bool sees(std::int32_t j) const { return visible(p, qo_len, kv_len, i, j, mask); }
  T logit(std::int32_t j, T dot) const { return sees(j) ? transform(dot, origin, j) : SoftmaxState<T>::nothing; }
  T constant() const { return transform.row_constant(i, origin); }
};

template <class T>
using RowVector = Eigen::Matrix<T, 1, Eigen::Dynamic>;

// P V of one row. A key that the row does not see has P = 0, and its value may be anything, NaN too: 0 * NaN is NaN.
template <class T, class Row>
RowVector<T> weighted_values(const Row& p, const Matrix<T>& v, bool v_is_finite, const RowRule<T>& rule) {
  if (v_is_finite) return p * v;
  RowVector<T> o = RowVector<T>::Zero(v.cols());
  for (std::int32_t j = 0; j < v.rows(); ++j) {
    if (rule.sees(j)) o += p[j] * v.row(j);
  }
  return o;
}

// The whole idea: S = Q K^T, P = 2^(S - m), O = P V / d. rule(i) is row i's.
template <class T, class Rule>
HeadResult<T> softmax_qk_v(const Matrix<T>& q, const Matrix<T>& k, const Matrix<T>& v, const Rule& rule, T sink_log2,
                           T v_scale, DType p_dtype) {
  Matrix<T> s = q * k.transpose();                                                        // [qo_len, kv_len]
  const bool v_is_finite = v.allFinite();
  HeadResult<T> result{Matrix<T>::Zero(q.rows(), v.cols()), Vector<T>(q.rows()), {}, Vector<T>(q.rows())};
  for (std::int32_t i = 0; i < s.rows(); ++i) {
    const RowRule<T> row = rule(i);
    for (std::int32_t j = 0; j < s.cols(); ++j) s(i, j) = row.logit(j, s(i, j));          // log2 units
    SoftmaxState<T> state;
    if (s.cols() > 0) state.m = s.row(i).maxCoeff();
    s.row(i) = s.row(i).unaryExpr([&](T x) { return SoftmaxState<T>::weight(x, state.m); });
    state.d = s.row(i).sum();
    s.row(i) = s.row(i).unaryExpr([&](T x) { return round_to(p_dtype, x); });
    const auto [scale, lse_log2] = finish_row(state, sink_log2, row.constant());          // scale = 1 / d, with the sink
    result.o.row(i) = weighted_values(s.row(i), v, v_is_finite, row) * (scale * v_scale);
    result.lse_log2[i] = lse_log2;
    result.scale[i] = scale;
  }
  result.p = std::move(s);
  return result;
}

}  // namespace

template <class T>
HeadResult<T> naive_head(const AttentionProblem& problem, std::int32_t request, std::int32_t qo_head,
                         std::int64_t mask_offset, DType operands) {
  const AttentionParams& p = problem.params;
  const std::int32_t qo_len = problem.qo_len(request), kv_len = problem.kv_len(request);
  const std::int32_t kv_head = qo_head / p.group_size();
  Matrix<T> q, k, v;
  load_queries(problem, request, rows_of_head(qo_head, {0, qo_len}), q);
  load_keys(problem, request, kv_head, {0, kv_len}, k);
  load_values(problem, request, kv_head, {0, kv_len}, v);
  if (p.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA) round_all(operands, q), round_all(operands, k);

  const ScoreTransform<T> transform(p, qo_head, problem.scales.k_of(kv_head));
  const std::uint8_t* mask = p.mask == MaskMode::custom ? problem.custom_mask.data() + mask_offset : nullptr;
  const auto rule = [&](std::int32_t i) {  // double holds the contract's own logits to 1e-10; float must do as the rungs do
    const std::int32_t origin = std::is_same_v<T, double> ? i : alibi_origin(p, qo_len, kv_len, i, mask);
    return RowRule<T>{p, transform, qo_len, kv_len, i, origin, mask};
  };
  const T sink = p.sinks ? SoftmaxState<T>::from_sink(problem.sinks[qo_head]).m : SoftmaxState<T>::nothing;
  return softmax_qk_v(q, k, v, rule, sink, static_cast<T>(problem.scales.v_of(kv_head)), operands);
}

template HeadResult<double> naive_head(const AttentionProblem&, std::int32_t, std::int32_t, std::int64_t, DType);
template HeadResult<float> naive_head(const AttentionProblem&, std::int32_t, std::int32_t, std::int64_t, DType);

void attend(const AttentionProblem& problem, const AttentionOutput& output) {
  validate(problem, output);
  const auto offsets = mask_offsets(problem);
  for_each_head(problem, [&](std::int32_t b, std::int32_t h) {
    const HeadResult<double> head = naive_head<double>(problem, b, h, offsets[b]);
    for (Eigen::Index i = 0; i < head.o.rows(); ++i) {
      const std::int64_t row = problem.qo_indptr[b] + i;
      float* o = output.o.data_as<float>() + row * output.o.strides[0] + h * output.o.strides[1];
      Eigen::Map<Eigen::RowVectorXf>(o, head.o.cols()) = head.o.row(i).cast<float>();
      const std::span<float> lse = output.lse();
      if (lse.empty()) continue;
      lse[row * problem.params.num_qo_heads + h] = static_cast<float>(head.lse_log2[i]) * output.lse_factor();
    }
  });
}

}  // namespace flashladder::reference::c0
