#include "reference/c3_paged.hpp"

#include <algorithm>

#include "core/validate.hpp"
#include "reference/c1_online_softmax.hpp"

namespace flashladder::reference::c3 {

void online_softmax(const AttentionProblem& problem, const QueryTile& tile, std::int32_t kv_head, Range keys,
                    Buffers& buffers, Accumulator& acc) {
  keys = intersect(keys, tile.keys);
  for (Range now; !keys.empty(); keys.begin = now.end) {
    now = first_of(keys, c1::key_tile);
    load_keys(problem, tile.request, kv_head, now, buffers.k);
    load_values(problem, tile.request, kv_head, now, buffers.v);
    c1::absorb_keys(tile, RowsView(buffers.k.data(), now.size(), buffers.k.cols(), buffers.k.outerStride()),
                    RowsView(buffers.v.data(), now.size(), buffers.v.cols(), buffers.v.outerStride()), now.begin,
                    buffers.s, acc);
  }
}

void attend(const AttentionProblem& problem, const AttentionOutput& output, const c2::Split& split) {
  validate(problem, output);
  const auto offsets = mask_offsets(problem);
  QueryTile tile;
  Accumulator acc, merged;
  Buffers buffers;
  for_each_head(problem, [&](std::int32_t b, std::int32_t h) {
    const std::vector<Range> pieces = c2::checked(split(problem.kv_len(b)), problem.kv_len(b), b);
    for (Range left{0, problem.qo_len(b)}, now; !left.empty(); left.begin = now.end) {
      now = first_of(left, c1::query_tile);
      load_query_tile(problem, b, rows_of_head(h, now), offsets[b], tile);
      merged.reset(tile.size(), problem.params.head_dim_vo);
      for (const Range piece : pieces) {
        acc.reset(tile.size(), problem.params.head_dim_vo);
        online_softmax(problem, tile, h / problem.params.group_size(), piece, buffers, acc);
        c2::absorb_partial(c2::finish(acc), merged);
      }
      write_tile(problem, output, tile, merged);
    }
  });
}

}  // namespace flashladder::reference::c3
