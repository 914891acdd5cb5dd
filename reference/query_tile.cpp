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
    for (std::int32_t c = begin; c < end; ++c) dots[c] = transform(dots[c], origin, first_key + c);
  }
  if (mask_row == nullptr) return;
  for (std::int32_t c = begin; c < end; ++c) dots[c] = mask_row[first_key + c] ? dots[c] : hidden;
}

QueryRow query_row(const AttentionProblem& problem, std::int32_t request, RowId id, std::int64_t mask_offset) {
  const AttentionParams& p = problem.params;
  const std::int32_t qo_len = problem.qo_len(request), kv_len = problem.kv_len(request);
  const std::uint8_t* mask = p.mask == MaskMode::custom ? problem.custom_mask.data() + mask_offset : nullptr;
  const ScoreTransform<float> transform(p, id.head, problem.scales.k_of(id.head / p.group_size()));
  return {id, transform, visible_keys(p, qo_len, kv_len, id.query),
          mask ? mask + std::int64_t{id.query} * kv_len : nullptr, alibi_origin(p, qo_len, kv_len, id.query, mask)};
}

void name_query_tile(const AttentionProblem& problem, std::int32_t request, std::span<const RowId> rows,
                     std::int64_t mask_offset, QueryTile& tile) {
  tile.request = request;
  tile.rows.clear();
  tile.keys = {problem.kv_len(request), 0};
  for (const RowId id : rows) {
    const QueryRow& row = tile.rows.emplace_back(query_row(problem, request, id, mask_offset));
    if (row.visible.empty()) continue;
    tile.keys = {std::min(tile.keys.begin, row.visible.begin), std::max(tile.keys.end, row.visible.end)};
  }
}

void load_query_tile(const AttentionProblem& problem, std::int32_t request, std::span<const RowId> rows,
                     std::int64_t mask_offset, QueryTile& tile) {
  name_query_tile(problem, request, rows, mask_offset, tile);
  load_queries(problem, request, rows, tile.q);
}

void Accumulator::absorb_partial(std::size_t r, Eigen::Ref<const Eigen::RowVectorXf> partial_o, float lse_log2) {
  const MergeWeights<float> weights = merge(states[r], SoftmaxState<float>::from_lse_log2(lse_log2));
  o.row(r) = o.row(r) * weights.a + partial_o * weights.b;
}

void write_row(const AttentionProblem& problem, const AttentionOutput& output, std::int32_t request, const QueryRow& row,
               const SoftmaxState<float>& state, Eigen::Ref<const Eigen::RowVectorXf> o) {
  const auto [query, head] = row.id;
  using State = SoftmaxState<float>;
  const float sink = problem.params.sinks ? State::from_sink(problem.sinks[head]).m : State::nothing;
  const auto [scale, lse_log2] = finish_row(state, sink, row.transform.row_constant(query, row.origin));
  const std::int64_t at = std::int64_t{problem.qo_indptr[request]} + query;
  float* out = output.o.data_as<float>() + at * output.o.strides[0] + head * output.o.strides[1];
  Eigen::Map<Eigen::RowVectorXf>(out, o.size()) = o * (scale * problem.scales.v_of(head / problem.params.group_size()));
  const std::span<float> lse = output.lse();
  if (!lse.empty()) lse[at * problem.params.num_qo_heads + head] = lse_log2 * output.lse_factor();
}

void write_tile(const AttentionProblem& problem, const AttentionOutput& output, const QueryTile& tile,
                const Accumulator& acc) {
  for (std::int32_t r = 0; r < tile.size(); ++r) {
    write_row(problem, output, tile.request, tile.rows[r], acc.states[r], acc.o.row(r));
  }
}

}  // namespace flashladder::reference
