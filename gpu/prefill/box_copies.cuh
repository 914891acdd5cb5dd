// The producer's side of boxes.hpp: where the boxes of a tile lie, and the requests that bring them to shared memory. A lane
// a box: the engine takes requests from many lanes faster than one lane can make them.
#pragma once

#include <cstdint>

#include "gpu/attention/packed_plan.hpp"
#include "gpu/prefill/boxes.hpp"
#include "gpu/prefill/hopper_shape.cuh"
#include "gpu/ptx/tma.cuh"

namespace flashladder::gpu {

// This lane's box of a tile of keys, or of values: two registers, since tiles are located ahead.
struct TileBoxes {
  static constexpr std::int32_t nothing = -1, end_rows = -2;
  std::int32_t at = 0;          // coordinate 3, a group of 8 tokens; of end_rows: coordinate 1, a row
  std::int32_t page = nothing;  // coordinate 4. nothing: the lane has no box. end_rows: 8 rows, by the maps that end where
                                // the tensor ends
};

// The tile's `tile` tokens begin at `token`, a multiple of box_rows (ragged: any). Boxes that begin at `end` or behind
// are not looked up: they are all zeros, or rows that nobody sees. (Unsigned: what lies behind the last of 2^31 - 1 tokens
// must not wrap to a negative number.)
template <int tile>
__device__ inline TileBoxes locate_boxes(const KvBoxes& kv, std::int32_t first_page, std::uint32_t token,
                                         std::uint32_t end) {
  const std::uint32_t lane = threadIdx.x % 32;
  if (kv.ragged) {
    const auto row = static_cast<std::int32_t>(first_page + token);
    if (row / 8 + tile / 8 <= kv.whole_groups) return {row / 8, lane == 0 ? row % 8 : TileBoxes::nothing};
    return {row + 8 * static_cast<std::int32_t>(lane), lane < tile / 8 ? TileBoxes::end_rows : TileBoxes::nothing};
  }
  const std::uint32_t mine = lane * kv.box_rows;
  if (mine >= tile) return {};
  if (token + mine >= end) return {0, kv.pages.num_pages};
  const auto at = static_cast<std::int32_t>(token + mine);
  const std::int32_t logical = kv.by_page_size.quotient(at), position = first_page + logical;
  return {(at - logical * kv.pages.page_size) / 8, kv.pages.indices ? kv.pages.indices[position] : position};
}

// Asks for a tile of keys or values. to: [tile / 8][head_dim / 64] atoms. head_row: the KV head, in rows of 64 features.
template <int head_dim>
__device__ inline void copy_tile(const CUtensorMap& map, const CUtensorMap& end_map, const TileBoxes& boxes,
                                 std::int32_t head_row, std::int32_t box_rows, unsigned char* to, Mbarrier& full) {
  const std::int32_t lane = threadIdx.x % 32;
  if (boxes.page >= 0) {
    copy_box(map, to + lane * box_rows * head_dim * 2, full, L2Policy::evict_last, {0, 0, head_row, boxes.at, boxes.page});
  } else if (boxes.page == TileBoxes::end_rows) {
    copy_box(end_map, to + lane * 8 * head_dim * 2, full, L2Policy::evict_last, {0, boxes.at, head_row, 0, 0});
  }
}

// An item's rows of q: for each warp group a box a panel of 64 features, which a lane asks for. What lies there must have
// been read. Rows behind the item's last come along: their results go nowhere.
template <class S>
__device__ inline void copy_queries(const QueryBoxes& queries, const PackedItem& item,
                                    unsigned char (&q)[S::consumers][S::q_bytes], Mbarrier& full) {
  constexpr int panels = S::head_dim_qk / 64;
  const int lane = threadIdx.x % 32;
  if (lane == 0) full.arrive_expecting(S::consumers * panels * queries.group_rows * 128);
  __syncwarp();  // the bytes are announced before any of them is asked for
  for (int group = 0; group < S::consumers && lane < panels; ++group) {
    const std::int32_t row = item.rows.begin + group * queries.group_rows;
    copy_box(queries.q, q[group] + lane * S::group_rows * 128, full, L2Policy::evict_first,
             {0, item.head * queries.pack(), item.query + queries.by_pack.quotient(row), lane});
  }
}

}  // namespace flashladder::gpu
