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

namespace {

// As O += P V, for values that are not all finite: 0 * NaN is NaN, so what a row does not see is left out.
void add_seen_values(const QueryTile& tile, Range keys, const Matrix<float>& p, const RowsView& v, Accumulator& acc) {
  Eigen::RowVectorXf sum(v.cols());
  for (std::int32_t r = 0; r < tile.size(); ++r) {
    sum.setZero();
    for (std::int32_t j = 0; j < keys.size(); ++j) {
      if (tile.rows[r].sees(keys.begin + j)) sum += p(r, j) * v.row(j);
    }
    acc.o.row(r) += sum;
  }
}

}  // namespace

void absorb_keys(const QueryTile& tile, const RowsView& k, const RowsView& v, std::int32_t first_key, Matrix<float>& s,
                 Accumulator& acc) {
  s.noalias() = tile.q * k.transpose();                             // [rows, keys]
  for (std::int32_t r = 0; r < tile.size(); ++r) {
    tile.rows[r].to_logits(s.row(r), first_key);
    SoftmaxState<float>& state = acc.states[r];
    const float top = s.row(r).maxCoeff<Eigen::PropagateNaN>(), m = top <= state.m ? state.m : top;  // a NaN stays
    exp2_minus(s.row(r), m);                                        // S becomes P, relative to the new maximum
    const auto weights = merge(state, {m, s.row(r).sum()});         // weights.b is 1: the tile already is relative to m
    if (weights.a != 1.0f) acc.o.row(r) *= weights.a;               // o was relative to the old one
  }
  const Range keys{first_key, first_key + static_cast<std::int32_t>(k.rows())};
  const bool all_seen = std::ranges::all_of(tile.rows, [&](const QueryRow& row) { return row.sees_all(keys); });
  if (all_seen || v.allFinite()) {
    acc.o.noalias() += s * v;                                       // [rows, head_dim_vo]
  } else {
    add_seen_values(tile, keys, s, v, acc);
  }
}

void online_softmax(const QueryTile& tile, const Matrix<float>& k, const Matrix<float>& v, Range keys, Accumulator& acc) {
  Matrix<float> s;
  keys = intersect(keys, tile.keys);
  for (Range now; !keys.empty(); keys.begin = now.end) {
    now = first_of(keys, key_tile);
    absorb_keys(tile, RowsView(k.row(now.begin).data(), now.size(), k.cols(), k.outerStride()),
                RowsView(v.row(now.begin).data(), now.size(), v.cols(), v.outerStride()), now.begin, s, acc);
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
    for (Range left{0, problem.qo_len(b)}, now; !left.empty(); left.begin = now.end) {
      now = first_of(left, query_tile);
      load_query_tile(problem, b, rows_of_head(h, now), offsets[b], tile);
      acc.reset(tile.size(), problem.params.head_dim_vo);
      online_softmax(tile, k, v, all_keys, acc);
      write_tile(problem, output, tile, acc);
    }
  });
}

}  // namespace flashladder::reference::c1
