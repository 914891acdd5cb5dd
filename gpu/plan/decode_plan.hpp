// A decode's plan made on the GPU: lengths that lie on the device in, a packed plan (gpu/attention/packed_plan.hpp) out.
//
// It is the plan of the host's planner, number by number, for policies even, fixed and none: a kernel that runs it can't tell
// who made it. Nothing is copied to the host, so that plan and run can be captured into a graph, which then plans anew in every
// replay. One block does it all, in phases; even_plan.hpp and chunked_plan.hpp say how, and run on the host as well.
#pragma once

#include <cstdint>

#include "core/attention_params.hpp"
#include "core/cuts.hpp"
#include "core/page_table.hpp"
#include "core/visibility.hpp"
#include "gpu/attention/packed_plan.hpp"

namespace flashladder::gpu {

// What the planner's inputs are for the host's. Costs are whole numbers of keys, less than 2^53 in all.
struct DecodePlanParams {
  PageTable table;               // on the device: the lengths of a block table, or of page lists; no page ids
  std::int32_t most_keys = 0;    // of a request. Lengths can't be refused there: a longer one counts as this one, a negative
                                 // one as 0, so that no plan outgrows its block
  std::int32_t num_kv_heads = 1, group_size = 1;  // a tile packs the group
  std::int32_t query_tile = 1;   // most packed rows of a tile
  std::int32_t queries = 1;      // of every request. Several, with a causal mask or none: all their rows are one tile
  std::int32_t window_left = -1;
  bool even = true;
  std::int32_t chunk = 0;        // not even: keys of a chunk, a multiple of chunk_align; 0: no tile is cut
  std::int32_t chunk_align = 64;
  std::int32_t per_item = 1;     // planner::CostModel; at least one row's keys are all it reads
  std::int32_t num_ctas = 1;
  std::int32_t counters = 1;     // PackedShape::counters
  std::int64_t most_work = 0;    // PackedShape::items, of all heads
  PackedView view;               // the block that is written

  FL_HD constexpr std::int32_t batch() const { return table.num_requests; }
  FL_HD constexpr std::int32_t kv_len(std::int32_t request) const {
    const std::int32_t length = table.is_block_table() ? table.seq_lens[request] : length_of_pages(request);
    return length < 0 ? 0 : length < most_keys ? length : most_keys;
  }
  // table.length() of page lists, but that no read waits for another.
  FL_HD constexpr std::int32_t length_of_pages(std::int32_t request) const {
    const std::int32_t last = table.last_page_len[request], pages = table.indptr[request + 1] - table.indptr[request];
    return (pages != 0) * ((pages - 1) * table.page_size + last);
  }
  FL_HD constexpr Range keys(std::int32_t kv_len) const {
    if (window_left < 0) return {0, kv_len};  // some query sees each key
    return visible_keys(AttentionParams{.window_left = window_left}, queries, kv_len, Range{0, queries});
  }
  FL_HD constexpr std::int32_t rows_of_head() const { return group_size * queries; }  // of a request
  FL_HD constexpr std::int32_t tiles() const { return div_up(rows_of_head(), query_tile); }
  FL_HD constexpr Range rows(std::int32_t tile) const {
    const std::int32_t begin = tile * query_tile, end = begin + query_tile;
    return {begin, end < rows_of_head() ? end : rows_of_head()};
  }
  FL_HD constexpr BalancedLine line() const { return balanced_line(num_kv_heads, num_ctas); }
};

}  // namespace flashladder::gpu
