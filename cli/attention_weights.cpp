#include "cli/attention_weights.hpp"

#include <cmath>
#include <limits>

#include "core/score_transform.hpp"
#include "core/softmax_state.hpp"
#include "core/visibility.hpp"
#include "reference/gather.hpp"

namespace flashladder::cli {

std::vector<float> attention_weights(const AttentionProblem& problem, std::int32_t request, std::int32_t qo_head) {
  const AttentionParams& p = problem.params;
  const std::int32_t qo_len = problem.qo_len(request), kv_len = problem.kv_len(request);
  reference::Matrix<double> q, k;
  reference::load_queries(problem, request, reference::rows_of_head(qo_head, {0, qo_len}), q);
  reference::load_keys(problem, request, qo_head / p.group_size(), {0, kv_len}, k);
  const reference::Matrix<double> dots = q * k.transpose();
  const ScoreTransform<double> transform(p, qo_head);
  const std::uint8_t* mask = nullptr;
  if (p.mask == MaskMode::custom) mask = problem.custom_mask.data() + mask_offsets(problem)[request];

  std::vector<float> weights(static_cast<std::size_t>(qo_len) * kv_len, std::numeric_limits<float>::quiet_NaN());
  for (std::int32_t i = 0; i < qo_len; ++i) {
    SoftmaxState<double> state;
    for (std::int32_t j = 0; j < kv_len; ++j) {
      if (visible(p, qo_len, kv_len, i, j, mask)) merge(state, {transform(dots(i, j), i, j), 1});
    }
    for (std::int32_t j = 0; j < kv_len; ++j) {
      if (!visible(p, qo_len, kv_len, i, j, mask)) continue;
      weights[static_cast<std::size_t>(i) * kv_len + j] =
          static_cast<float>(std::exp2(transform(dots(i, j), i, j) - state.lse_log2()));
    }
  }
  return weights;
}

}  // namespace flashladder::cli
