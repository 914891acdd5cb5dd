#include "reference/mla/l1_tiled.hpp"

#include "core/row.hpp"
#include "reference/c1_online_softmax.hpp"
#include "reference/mla/latents.hpp"

namespace flashladder::reference::l1 {

void load_tile(const MlaProblem& problem, const AttentionProblem& frame, std::int32_t request, Range rows, QueryTile& tile) {
  std::vector<RowId> named;
  for (std::int32_t r = rows.begin; r < rows.end; ++r) {
    const RowPlace place = row_of(0, r, problem.params.num_heads);
    named.push_back({place.query, place.qo_head});
  }
  name_query_tile(frame, request, named, 0, tile);
  load_mla_queries(problem, request, named, tile.q);
}

void online_softmax(const MlaProblem& problem, const QueryTile& tile, Range keys, Matrix<float>& latents, Matrix<float>& s,
                    Accumulator& acc) {
  const Eigen::Index width = problem.params.head_dim_qk(), value = problem.params.head_dim_ckv;
  keys = intersect(keys, tile.keys);
  for (Range now; !keys.empty(); keys.begin = now.end) {
    now = first_of(keys, c1::key_tile);
    load_latents(problem, tile.request, now, latents);
    const RowsView k(latents.data(), now.size(), width, width);
    const RowsView v(latents.data(), now.size(), value, width);  // the same rows, without their kpe
    c1::absorb_keys(tile, k, v, now.begin, s, acc);
  }
}

void attend(const MlaProblem& problem, const AttentionOutput& output) {
  validate(problem, output);
  const AttentionProblem frame = problem.frame();
  Matrix<float> latents, s;
  QueryTile tile;
  Accumulator acc;
  for (std::int32_t b = 0; b < frame.batch(); ++b) {
    for (Range left{0, frame.qo_len(b) * problem.params.num_heads}, now; !left.empty(); left.begin = now.end) {
      now = first_of(left, c1::query_tile);
      load_tile(problem, frame, b, now, tile);
      acc.reset(tile.size(), problem.params.head_dim_ckv);
      online_softmax(problem, tile, {0, frame.kv_len(b)}, latents, s, acc);
      write_tile(frame, output, tile, acc);
    }
  }
}

}  // namespace flashladder::reference::l1
