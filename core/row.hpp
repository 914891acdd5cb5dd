// Packed rows: how query heads and queries become the rows of a tile.
//
// Query heads that share a KV head can be packed into rows, so that K and V are read once for all of them. `pack` is how
// many heads a query contributes: the whole group, or 1 (unpacked, as long prefill likes it). A "head" then stands for pack
// query heads: head h holds query heads h * pack .. h * pack + pack - 1, and packed row r of it is
//   query r / pack of the request,  query head h * pack + r % pack
// With pack = group a head is a KV head, with pack = 1 it is a query head.
#pragma once

#include <cstdint>

#include "core/host_device.hpp"

namespace flashladder {

struct RowPlace {
  std::int32_t query, qo_head;  // query: within its request
  friend constexpr bool operator==(const RowPlace&, const RowPlace&) = default;
};

FL_HD constexpr RowPlace row_of(std::int32_t head, std::int32_t row, std::int32_t pack) {
  return {row / pack, head * pack + row % pack};
}

FL_HD constexpr std::int32_t kv_head_of(std::int32_t head, std::int32_t pack, std::int32_t group_size) {
  return head * pack / group_size;
}

}  // namespace flashladder
