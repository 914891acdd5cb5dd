// Several queries of a request in one decode item, as a server has them that checks drafts of a few tokens: the rows of all
// its queries are one tile, so that K and V are read once for all of them.
//
//   packed row          0    1    2    3    4    5    6    7      a group of 4, two queries
//   query head          0    1    2    3    0    1    2    3
//   query               0    0    0    0    1    1    1    1
//   sees, if causal     all keys but the last    all keys
//
// Rows see different ranges of keys, so a tile of 16 keys that is not inside of all these ranges asks of each key and row.
// There are few such tiles: with a causal mask those of the last keys, with a window those of the first, too. All others pass
// one branch, the same for the warp: a decode has no instructions to spare, and whatever each key of a long cache costs is
// seen in its time.
// Only variants whose logits do not depend on the query have instances with it: Scaled and SoftCapped.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/range.hpp"
#include "core/softmax_state.hpp"
#include "gpu/attention/packed_work.cuh"
#include "gpu/decode/tile_ring.cuh"
#include "gpu/prefill/row_keys.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

struct FewQueriesRows : PackedRows {
  KeyRules rules;
};

template <class Variant>
constexpr bool may_have_few_queries = std::is_empty_v<typename Variant::Query>;

// Which keys the rows of this lane's columns see: row n * 8 + lane % 4 * 2 + j for column j of head tile n. Where an item has
// one query, all of its keys: then which tokens there are is known before the tile is (HeadTiles::absorb).
template <class S, class Place>
struct KeysOfColumns {
  __device__ KeysOfColumns(const Place&, const PackedItem&) {}
};

// The logits of a tile that come to nothing, because a row does not see the key, or there is none.
template <class S>
struct HiddenLogits {
  const Range (&rows)[S::head_tiles][2];
  bool edge;
  std::uint32_t token;  // this lane's first

  __device__ void hide(float (&s)[S::head_tiles][4]) const {
    if (!edge) [[likely]] return;
#pragma unroll
    for (int n = 0; n < S::head_tiles; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const Range row = rows[n][c % 2];
        const std::uint32_t key = token + c / 2 * 8;  // unsigned: a tile may end behind 2^31 - 1
        const bool seen = key >= static_cast<std::uint32_t>(row.begin) && key < static_cast<std::uint32_t>(row.end);
        if (!seen) s[n][c] = SoftmaxState<float>::nothing;
      }
    }
  }
};

template <class S>
struct KeysOfColumns<S, FewQueriesRows> {
  Range rows[S::head_tiles][2];
  Range all;  // what every row sees

  __device__ KeysOfColumns(const FewQueriesRows& place, const PackedItem& item) {
    const int last = item.rows.size() - 1;
    const auto keys = [&](int row) {  // rows that are not there count as the last
      Range seen = row_keys(place.rules, item, place(item, min(row, last)).query - item.query);
      seen.end = max(seen.end, 0);  // with fewer keys than queries the first of these end before key 0
      return seen;
    };
#pragma unroll
    for (int n = 0; n < S::head_tiles; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) rows[n][j] = keys(n * heads_in_tile + static_cast<int>(threadIdx.x) % 4 * 2 + j);
    }
    all = {keys(last).begin, keys(0).end};
  }

  // Of the tile of 16 keys from `tile` on. By a shuffle, so that the compiler knows the branch to be the same for the warp.
  __device__ HiddenLogits<S> hidden(std::uint32_t tile, std::uint32_t token) const {
    const bool inside = !all.empty() && tile >= static_cast<std::uint32_t>(all.begin) &&
                        tile + tile_tokens <= static_cast<std::uint32_t>(all.end);
    return {rows, __shfl_sync(all_lanes, !inside, 0) != 0, token};
  }
};

}  // namespace flashladder::gpu
