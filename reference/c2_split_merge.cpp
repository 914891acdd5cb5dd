#include "reference/c2_split_merge.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/validate.hpp"
#include "reference/c1_online_softmax.hpp"

namespace flashladder::reference::c2 {

Partial finish(const Accumulator& acc) {
  Partial partial{acc.o, std::vector<float>(acc.states.size())};
  for (std::size_t r = 0; r < acc.states.size(); ++r) {
    partial.o.row(r) *= acc.states[r].inverse_d();
    partial.lse_log2[r] = acc.states[r].lse_log2();
  }
  return partial;
}

void absorb_partial(const Partial& partial, Accumulator& merged) {
  for (std::size_t r = 0; r < partial.lse_log2.size(); ++r) {
    merged.absorb_partial(r, partial.o.row(r), partial.lse_log2[r]);
  }
}

std::vector<Range> chunks_of_256(std::int32_t kv_len) {
  std::vector<Range> pieces;
  for (Range left{0, kv_len}; !left.empty(); left.begin = pieces.back().end) pieces.push_back(first_of(left, 256));
  return pieces;
}

std::vector<Range> checked(std::vector<Range> pieces, std::int32_t kv_len, std::int32_t request) {
  std::vector<Range> sorted = pieces;
  std::ranges::sort(sorted, {}, &Range::begin);
  std::int32_t covered = 0;
  for (const Range piece : sorted) {
    require(piece.begin == covered && piece.end >= piece.begin, "split", piece.begin, "pieces must cover every key once",
            request);
    covered = piece.end;
  }
  require(covered == kv_len, "split", covered, "pieces must cover every key once", request);
  return pieces;
}

void attend(const AttentionProblem& problem, const AttentionOutput& output, const Split& split) {
  validate(problem, output);
  const auto offsets = mask_offsets(problem);
  Matrix<float> k, v;
  QueryTile tile;
  Accumulator acc, merged;
  for_each_head(problem, [&](std::int32_t b, std::int32_t h) {
    const Range all_keys{0, problem.kv_len(b)};
    const std::vector<Range> pieces = checked(split(all_keys.end), all_keys.end, b);
    load_keys(problem, b, h / problem.params.group_size(), all_keys, k);
    load_values(problem, b, h / problem.params.group_size(), all_keys, v);
    for (Range left{0, problem.qo_len(b)}, now; !left.empty(); left.begin = now.end) {
      now = first_of(left, c1::query_tile);
      load_query_tile(problem, b, rows_of_head(h, now), offsets[b], tile);
      merged.reset(tile.size(), problem.params.head_dim_vo);
      for (const Range piece : pieces) {
        acc.reset(tile.size(), problem.params.head_dim_vo);
        c1::online_softmax(tile, k, v, piece, acc);
        absorb_partial(finish(acc), merged);
      }
      write_tile(problem, output, tile, merged);
    }
  });
}

}  // namespace flashladder::reference::c2
