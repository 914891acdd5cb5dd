// Queries, keys and values as boxes that the copy engine brings to shared memory, pages included: kernel parameters, made
// on the host in every run, since pointers change from layer to layer.
//
// In shared memory a tile of keys is a list of atoms: 8 tokens x 64 features, in swizzled rows of 128 bytes. With head_dim
// 128 two atoms, side by side, hold 8 tokens:
//
//   token     0-7        8-15       16-23             A box brings box_rows tokens of one page, all features: a page of 16
//   atoms     A0 B0      A1 B1      A2 B2    ...      tokens is one box, and paging costs as many requests as there are
//             |<- box of a page ->|                   pages, no more.
//
// As a tensor a cache has five dimensions {64 features, 8 tokens, heads x features / 64, page_size / 8, pages}. A page
// number behind the last is out of range: such a box is all zeros, and counts its bytes like any other.
//
// A ragged cache has no pages; a tile begins at any row. Its dimensions overlap: {64 features, 8 rows, heads x features /
// 64, groups of 8 rows, 8 rows}, row = 8 c3 + c4 + c1, so that one box takes a whole tile from any row on. Behind the last
// whole group boxes of 8 rows are used, which end where the tensor ends.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <string>

#include "core/divisor.hpp"
#include "core/page_table.hpp"
#include "gpu/attention/attention_call.hpp"

namespace flashladder::gpu {

struct KvBoxes {
  CUtensorMap k{}, v{};        // boxes of box_rows tokens
  CUtensorMap k_end{}, v_end{};  // ragged: boxes of 8 rows
  PageList pages;
  Divisor by_page_size;
  std::int32_t box_rows = 8;   // a power of two that divides the page and the tile; ragged: the tile
  std::int32_t k_head = 0, v_head = 0;  // from head to head, in units of 64 features
  std::int32_t whole_groups = 0;        // ragged: groups of 8 rows that may begin at any of 8 rows
  bool ragged = false;

  std::int32_t first_key_mask = -1;     // a tile begins at a multiple of a power of two: of box_rows, or, ragged, of 1
};

// tile: keys of a tile, a multiple of 8. InputError if heads do not lie multiples of 64 elements apart, or a stride is not
// positive.
KvBoxes kv_boxes(const AttentionCall& call, std::int32_t tile);

// "" if tiles of such pages arrive in boxes.
std::string why_no_boxes(std::int32_t page_size, bool identity);

struct QueryBoxes {
  CUtensorMap q{};                // {64 features, heads, queries, features / 64}; box {64, pack, group_rows / pack, 1}
  CUtensorMap o{};                // the same of o; box {64, pack, warp_rows / pack, 1}
  Divisor by_pack;
  std::int32_t group_rows = 64;     // packed rows of a warp group: the largest multiple of pack up to 64
  bool o_in_boxes = false;          // o has 16 bits, and 16 rows of a warp are whole queries: whole warps leave as boxes

  FL_HD constexpr std::int32_t pack() const { return by_pack.number; }
};
QueryBoxes query_boxes(const AttentionCall& call, std::int32_t pack);

}  // namespace flashladder::gpu
