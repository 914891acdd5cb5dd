#include "reference/mla/l2_split_merge.hpp"

#include "reference/c1_online_softmax.hpp"
#include "reference/mla/l1_tiled.hpp"

namespace flashladder::reference::l2 {

void attend(const MlaProblem& problem, const AttentionOutput& output, const c2::Split& split) {
  validate(problem, output);
  const AttentionProblem frame = problem.frame();
  const std::int32_t dim = problem.params.head_dim_ckv;
  Matrix<float> latents, s;
  QueryTile tile;
  Accumulator acc, merged;
  for (std::int32_t b = 0; b < frame.batch(); ++b) {
    const std::vector<Range> pieces = c2::checked(split(frame.kv_len(b)), frame.kv_len(b), b);
    for (Range left{0, frame.qo_len(b) * problem.params.num_heads}, now; !left.empty(); left.begin = now.end) {
      now = first_of(left, c1::query_tile);
      l1::load_tile(problem, frame, b, now, tile);
      merged.reset(tile.size(), dim);
      for (const Range piece : pieces) {
        acc.reset(tile.size(), dim);
        l1::online_softmax(problem, tile, piece, latents, s, acc);
        c2::absorb_partial(c2::finish(acc), merged);
      }
      write_tile(frame, output, tile, merged);
    }
  }
}

}  // namespace flashladder::reference::l2
