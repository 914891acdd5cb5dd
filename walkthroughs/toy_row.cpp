#include "walkthroughs/toy_row.hpp"

#include "core/score_transform.hpp"
#include "core/visibility.hpp"
#include "reference/c1_online_softmax.hpp"
#include "walkthroughs/toy.hpp"

namespace flashladder::walkthroughs {

ToyRow::ToyRow(std::uint64_t seed)
    : c(toy_case({.name = "toy", .seed = seed, .qo_lens = {1}, .kv_lens = {10},
                  .params = {.head_dim_qk = 4, .head_dim_vo = 4, .sm_scale = 0.5f}, .page_size = 4})) {
  const AttentionProblem problem = c.problem();
  reference::load_query_tile(problem, 0, reference::rows_of_head(0, {0, 1}), 0, tile);
  reference::load_keys(problem, 0, 0, tile.keys, k);
  reference::load_values(problem, 0, 0, tile.keys, v);
  x = tile.q * k.transpose();
  tile.rows[0].to_logits(x, 0);
  lse_rounding = 8 * unit_roundoff(DType::f32) * (1 + x.cwiseAbs().maxCoeff());
  o_rounding = lse_rounding * v.cwiseAbs().maxCoeff();
}

reference::c2::Partial ToyRow::attend(Range keys) const {
  reference::Accumulator acc;
  acc.reset(1, c.spec.params.head_dim_vo);
  reference::c1::online_softmax(tile, k, v, keys, acc);
  return reference::c2::finish(acc);
}

Head::Head(const AttentionProblem& problem, std::int32_t qo_head) {
  const AttentionParams& p = problem.params;
  const std::int32_t qo_len = problem.qo_len(0), kv_len = problem.kv_len(0), kv_head = qo_head / p.group_size();
  reference::load_queries(problem, 0, reference::rows_of_head(qo_head, {0, qo_len}), q);
  reference::load_keys(problem, 0, kv_head, {0, kv_len}, k);
  reference::load_values(problem, 0, kv_head, {0, kv_len}, v);
  scores = logits = q * k.transpose();
  const std::uint8_t* mask = p.mask == MaskMode::custom ? problem.custom_mask.data() : nullptr;
  const ScoreTransform<double> transform(p, qo_head);
  for (std::int32_t i = 0; i < qo_len; ++i) {
    for (std::int32_t j = 0; j < kv_len; ++j) {
      const bool seen = visible(p, qo_len, kv_len, i, j, mask);
      logits(i, j) = seen ? transform(scores(i, j), i, j) : SoftmaxState<double>::nothing;
    }
  }
}

}  // namespace flashladder::walkthroughs
