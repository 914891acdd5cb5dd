#include "reference/c1_online_softmax.hpp"

#include <algorithm>

#include "core/validate.hpp"

namespace flashladder::reference::c1 {

void exp2_minus(Eigen::Ref<Eigen::RowVectorXf> logits, float m) {
  if (m == SoftmaxState<float>::nothing) {
    logits.setZero();
  } else {
    constexpr auto ln_2 = static_cast<float>(1 / log2_e);
    logits = ((logits.array() - m) * ln_2).exp();  // Eigen vectorises exp, not exp2
  }
}

void absorb_keys(const QueryTile& tile, const RowsView& k, const RowsView& v, std::int32_t first_key, Matrix<float>& s,
                 Accumulator& acc) {
  s.noalias() = tile.q * k.transpose();                             // [rows, keys]
  for (std::int32_t r = 0; r < tile.size(); ++r) {
    tile.rows[r].to_logits(s.row(r), first_key);
    SoftmaxState<float>& state = acc.states[r];
    const float m = std::max(state.m, s.row(r).maxCoeff());
    exp2_minus(s.row(r), m);                                        // S becomes P, relative to the new maximum
    const auto weights = merge(state, {m, s.row(r).sum()});         // weights.b is 1: the tile already is relative to m
    if (weights.a != 1.0f) acc.o.row(r) *= weights.a;               // o was relative to the old one
  }
  acc.o.noalias() += s * v;                                         // [rows, head_dim_vo]
}

void online_softmax(const QueryTile& tile, const Matrix<float>& k, const Matrix<float>& v, Range keys, Accumulator& acc) {
  Matrix<float> s;
  keys = intersect(keys, tile.keys);
  for (std::int32_t j = keys.begin; j < keys.end; j += key_tile) {
    const std::int32_t n = std::min(key_tile, keys.end - j);
    absorb_keys(tile, RowsView(k.row(j).data(), n, k.cols(), k.outerStride()),
                RowsView(v.row(j).data(), n, v.cols(), v.outerStride()), j, s, acc);
  }
}

void attend(const AttentionProblem& problem, const AttentionOutput& output) {
  validate(problem, output);
  const auto offsets = mask_offsets(problem);
  Matrix<float> k, v;
  QueryTile tile;
  Accumulator acc;
  for_each_head(problem, [&](std::int32_t b, std::int32_t h) {
    const Range all_keys{0, problem.kv_len(b)};
    load_keys(problem, b, h / problem.params.group_size(), all_keys, k);
    load_values(problem, b, h / problem.params.group_size(), all_keys, v);
    for (std::int32_t i = 0; i < problem.qo_len(b); i += query_tile) {
      load_query_tile(problem, b, rows_of_head(h, {i, std::min(i + query_tile, problem.qo_len(b))}), offsets[b], tile);
      acc.reset(tile.size(), problem.params.head_dim_vo);
      online_softmax(tile, k, v, all_keys, acc);
      write_tile(problem, output, tile, acc);
    }
  });
}

}  // namespace flashladder::reference::c1
