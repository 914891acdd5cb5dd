// Several queries of a request in one decode item, as a server has them that checks drafts of a few tokens: the rows of all
// its queries are one tile, so that K and V are read once for all of them.
//
//   packed row          0    1    2    3    4    5    6    7      a group of 4, two queries
//   query head          0    1    2    3    0    1    2    3
//   query               0    0    0    0    1    1    1    1
//   sees, if causal     all keys but the last    all keys
//
// Rows see different ranges of keys, so a tile of 16 keys that is not inside of all these ranges asks of each key and row.
// There are few such tiles: with a causal mask those of the last keys, with a window those of the first, too. Only variants
// whose logits do not depend on the query have instances with it: Scaled and SoftCapped.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/range.hpp"
#include "gpu/attention/packed_work.cuh"
#include "gpu/decode/tile_ring.cuh"
#include "gpu/prefill/row_keys.cuh"

namespace flashladder::gpu {

struct FewQueriesRows : PackedRows {
  KeyRules rules;
};

template <class Variant>
constexpr bool may_have_few_queries = std::is_empty_v<typename Variant::Query>;

// Which keys the rows of this lane's columns see: row n * 8 + lane % 4 * 2 + j for column j of head tile n. Where an item has
// one query, all of its keys.
template <class S, class Place>
struct KeysOfColumns {
  __device__ KeysOfColumns(const Place&, const PackedItem&) {}
  __device__ static constexpr bool is_edge(std::uint32_t) { return false; }
  __device__ static constexpr bool sees(int, int, std::uint32_t) { return true; }
};

template <class S>
struct KeysOfColumns<S, FewQueriesRows> {
  Range rows[S::head_tiles][2];
  Range all;  // what every row sees

  __device__ KeysOfColumns(const FewQueriesRows& place, const PackedItem& item) {
    const int last = item.rows.size() - 1;
    const auto keys = [&](int row) {  // rows that are not there count as the last
      return row_keys(place.rules, item, place(item, min(row, last)).query - item.query);
    };
#pragma unroll
    for (int n = 0; n < S::head_tiles; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) rows[n][j] = keys(n * heads_in_tile + static_cast<int>(threadIdx.x) % 4 * 2 + j);
    }
    all = {keys(last).begin, keys(0).end};
  }

  // The tile of 16 keys from `tile` on: may a row not see one of them? (Unsigned: a tile may end behind 2^31 - 1.)
  __device__ bool is_edge(std::uint32_t tile) const {
    return tile < static_cast<std::uint32_t>(all.begin) || tile + tile_tokens > static_cast<std::uint32_t>(all.end);
  }
  __device__ bool sees(int n, int j, std::uint32_t key) const {
    const Range row = rows[n][j];
    return key >= static_cast<std::uint32_t>(row.begin) && key < static_cast<std::uint32_t>(row.end);
  }
};

}  // namespace flashladder::gpu
