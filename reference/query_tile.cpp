#include "reference/query_tile.hpp"

#include <algorithm>
#include <limits>

#include "core/visibility.hpp"

namespace flashladder::reference {

void QueryRow::to_logits(Eigen::Ref<Eigen::RowVectorXf> dots, std::int32_t first_key) const {
  constexpr float hidden = -std::numeric_limits<float>::infinity();
  const auto size = static_cast<std::int32_t>(dots.size());
  const Range seen = intersect(visible, {first_key, first_key + size});
  if (seen.empty()) {
    dots.setConstant(hidden);
    return;
  }
  const std::int32_t begin = seen.begin - first_key, end = seen.end - first_key;
  dots.head(begin).setConstant(hidden);
  dots.tail(size - end).setConstant(hidden);
  if (transform.only_scales()) {
    dots.segment(begin, end - begin) *= transform.sm_scale * static_cast<float>(log2_e);  // the common case, vectorised
  } else {
    for (std::int32_t c = begin; c < end; ++c) dots[c] = transform(dots[c], id.query, first_key + c);
  }
  if (mask_row == nullptr) return;
  for (std::int32_t c = begin; c < end; ++c) dots[c] = mask_row[first_key + c] ? dots[c] : hidden;
}

void load_query_tile(const AttentionProblem& problem, std::int32_t request, std::span<const RowId> rows,
                     std::int64_t mask_offset, QueryTile& tile) {
  const AttentionParams& p = problem.params;
  const std::int32_t qo_len = problem.qo_len(request), kv_len = problem.kv_len(request);
  const std::uint8_t* mask = p.mask == MaskMode::custom ? problem.custom_mask.data() + mask_offset : nullptr;
  tile.request = request;
  tile.rows.clear();
  tile.keys = {kv_len, 0};
  for (const RowId id : rows) {
    const Range visible = visible_keys(p, qo_len, kv_len, id.query);
    tile.rows.push_back({id, ScoreTransform<float>(p, id.head), visible,
                         mask ? mask + std::int64_t{id.query} * kv_len : nullptr});
    if (visible.empty()) continue;
    tile.keys = {std::min(tile.keys.begin, visible.begin), std::max(tile.keys.end, visible.end)};
  }
  load_queries(problem, request, rows, tile.q);
}

void Accumulator::absorb_partial(std::size_t r, Eigen::Ref<const Eigen::RowVectorXf> partial_o, float lse_log2) {
  const MergeWeights<float> weights = merge(states[r], SoftmaxState<float>::from_lse_log2(lse_log2));
  o.row(r) = o.row(r) * weights.a + partial_o * weights.b;
}

void write_row(const AttentionProblem& problem, const AttentionOutput& output, std::int32_t request, RowId id,
               SoftmaxState<float> state, Eigen::Ref<const Eigen::RowVectorXf> o) {
  float scale = 1;
  if (problem.params.sinks) scale = merge(state, SoftmaxState<float>::from_sink(problem.sinks[id.head])).a;
  const std::int64_t row = problem.qo_indptr[request] + id.query;
  float* out = output.o.data_as<float>() + row * output.o.strides[0] + id.head * output.o.strides[1];
  Eigen::Map<Eigen::RowVectorXf>(out, o.size()) = o * (scale * state.inverse_d());
  if (!output.lse_log2.empty()) output.lse_log2[row * problem.params.num_qo_heads + id.head] = state.lse_log2();
}

void write_tile(const AttentionProblem& problem, const AttentionOutput& output, const QueryTile& tile,
                const Accumulator& acc) {
  for (std::int32_t r = 0; r < tile.size(); ++r) {
    write_row(problem, output, tile.request, tile.rows[r].id, acc.states[r], acc.o.row(r));
  }
}

}  // namespace flashladder::reference
