// A prefill's plan made on the GPU: lengths that lie on the device in, a packed plan (gpu/attention/packed_plan.hpp) out.
//
// It is the plan of the host's planner, record by record, for policy none and CTAs that claim their work, costliest first: a
// kernel that runs it can't tell who made it. As for decode (decode_plan.hpp) nothing is copied to the host, a graph of plan
// and run plans anew in every replay, and one block does it all, in phases: claimed_plan.hpp, which runs on the host as well.
#pragma once

#include <cstdint>

#include "core/attention_params.hpp"
#include "core/page_table.hpp"
#include "core/visibility.hpp"
#include "gpu/attention/packed_plan.hpp"

namespace flashladder::gpu {

// What the planner's inputs are for the host's. Lengths can't be refused on the device. So that no plan outgrows its block,
// and no kernel reads or writes behind its arrays:
//   kv_len   more than most_keys counts as most_keys, a negative one as 0
//   qo_len   more than most_queries counts as most_queries, a negative one (qo_indptr that falls) as 0
//   begin    a request's queries begin where those of the requests before end, counted so, whatever qo_indptr says: that is
//            qo_indptr, if it is one. Queries behind row nnz_qo are left out
struct PrefillPlanParams {
  PageTable table;                            // on the device: the lengths of a block table, or of page lists; no page ids
  const std::int32_t* qo_indptr = nullptr;    // [batch + 1] on the device, or null:
  const std::int32_t* qo_lens = nullptr;      // [batch] there
  std::int32_t most_keys = 0, most_queries = 0;  // of a request
  std::int32_t nnz_qo = 0;                    // rows of q: queries of all requests are no more
  std::int32_t num_qo_heads = 1, group_size = 1, head_dim_vo = 1;
  std::int32_t query_tile = 1, pack = 1;      // packed rows of a tile, query heads whose rows are packed
  MaskMode mask = MaskMode::none;             // or causal
  std::int32_t window_left = -1;
  std::int32_t per_item = 1, memory_bound_rows = 128;  // planner::CostModel
  std::int32_t num_ctas = 1;
  std::int64_t most_items = 0;                // stored ones, which the block has room for
  PackedView view;                            // the block that is written

  FL_HD constexpr std::int32_t batch() const { return table.num_requests; }
  FL_HD constexpr std::int32_t copies() const { return num_qo_heads / pack; }
  FL_HD static constexpr std::int32_t clamped(std::int64_t length, std::int32_t most) {
    return length < 0 ? 0 : length < most ? static_cast<std::int32_t>(length) : most;
  }
  FL_HD constexpr std::int32_t kv_len(std::int32_t request) const { return clamped(table.length(request), most_keys); }
  FL_HD constexpr std::int32_t qo_len(std::int32_t request) const {  // but for those behind row nnz_qo
    if (qo_indptr == nullptr) return clamped(qo_lens[request], most_queries);
    return clamped(std::int64_t{qo_indptr[request + 1]} - qo_indptr[request], most_queries);
  }
  FL_HD constexpr std::int32_t tiles(std::int32_t queries) const { return div_up(queries * pack, query_tile); }
  FL_HD constexpr Range keys(Range queries, std::int32_t qo_len, std::int32_t kv_len) const {
    return visible_keys(AttentionParams{.mask = mask, .window_left = window_left}, qo_len, kv_len, queries);
  }
  // Stored items of any lengths, as clamped above. k requests with n queries in all have at most k + floor((n pack - k) /
  // query_tile) tiles, which grows with k, and none has more than most_queries.
  FL_HD constexpr std::int64_t most_tiles() const {
    const std::int64_t requests = batch() < nnz_qo ? batch() : nnz_qo, queries = most_queries < nnz_qo ? most_queries : nnz_qo;
    const std::int64_t by_rows = requests + (std::int64_t{nnz_qo} * pack - requests) / query_tile;
    const std::int64_t by_length = requests * div_up<std::int64_t>(queries * pack, query_tile);
    return by_rows < by_length ? by_rows : by_length;
  }
};

}  // namespace flashladder::gpu
