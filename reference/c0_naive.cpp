#include "reference/c0_naive.hpp"

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

// The whole idea. logit(i, j, dot) is the scaled and masked logit in log2 units, -inf where query i does not see key j.
template <class T, class Logit>
HeadResult<T> softmax_qk_v(const Matrix<T>& q, const Matrix<T>& k, const Matrix<T>& v, const Logit& logit,
                           SoftmaxState<T> sink, DType p_dtype) {
  Matrix<T> s = q * k.transpose();                                                        // [qo_len, kv_len]
  HeadResult<T> result{Matrix<T>::Zero(q.rows(), v.cols()), Vector<T>(q.rows())};
  for (Eigen::Index i = 0; i < s.rows(); ++i) {
    for (Eigen::Index j = 0; j < s.cols(); ++j) s(i, j) = logit(i, j, s(i, j));
    SoftmaxState<T> state;
    if (s.cols() > 0) state.m = s.row(i).maxCoeff();
    s.row(i) = s.row(i).unaryExpr([&](T x) { return SoftmaxState<T>::weight(x, state.m); });  // P = 2^(S - m)
    state.d = s.row(i).sum();
    s.row(i) = s.row(i).unaryExpr([&](T x) { return round_to(p_dtype, x); });
    const T with_sink = merge(state, sink).a;
    result.o.row(i) = s.row(i) * v * (with_sink * state.inverse_d());
    result.lse_log2[i] = state.lse_log2();
  }
  return result;
}

}  // namespace

template <class T>
HeadResult<T> naive_head(const AttentionProblem& problem, std::int32_t request, std::int32_t qo_head,
                         std::int64_t mask_offset, DType p_dtype) {
  const AttentionParams& p = problem.params;
  const std::int32_t qo_len = problem.qo_len(request), kv_len = problem.kv_len(request);
  const std::int32_t kv_head = qo_head / p.group_size();
  Matrix<T> q, k, v;
  load_queries(problem, request, rows_of_head(qo_head, {0, qo_len}), q);
  load_keys(problem, request, kv_head, {0, kv_len}, k);
  load_values(problem, request, kv_head, {0, kv_len}, v);

  const ScoreTransform<T> transform(p, qo_head);
  const std::uint8_t* mask = p.mask == MaskMode::custom ? problem.custom_mask.data() + mask_offset : nullptr;
  const auto logit = [&](Eigen::Index i, Eigen::Index j, T dot) {
    const auto query = static_cast<std::int32_t>(i), key = static_cast<std::int32_t>(j);
    return visible(p, qo_len, kv_len, query, key, mask) ? transform(dot, query, key) : SoftmaxState<T>::nothing;
  };
  const auto sink = p.sinks ? SoftmaxState<T>::from_sink(problem.sinks[qo_head]) : SoftmaxState<T>{};
  return softmax_qk_v(q, k, v, logit, sink, p_dtype);
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
      if (!output.lse_log2.empty())
        output.lse_log2[row * problem.params.num_qo_heads + h] = static_cast<float>(head.lse_log2[i]);
    }
  });
}

}  // namespace flashladder::reference::c0
