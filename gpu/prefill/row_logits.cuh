// Which rows of an item a lane has scores of, and what the variant makes of these scores. S: Variant, keys (of a tile),
// row_tiles (of 16 rows, of a warp), warp_rows.
//
// A warp's scores of a tile of keys are C fragments, s[row_tiles][keys / 8][4]: two neighbouring keys of row lane / 4, then
// two of row lane / 4 + 8 (core/fragment_map.hpp). So a lane has 2 * row_tiles rows, eight rows apart; number i of them is
// half i % 2 of the fragments of tile i / 2.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "core/range.hpp"
#include "core/softmax_state.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/attention/packed_work.cuh"

namespace flashladder::gpu {

// The lane's row i, a number of the item's rows. Those behind the item's last stand for the last: their results go nowhere.
template <class S>
__device__ int lane_row(int thread, int i) {
  return thread / 32 * S::warp_rows + i * 8 + thread % 32 / 4;
}
template <class S>
__device__ RowPlace lane_place(const PackedItem& item, PackedRows place, int i) {
  return place(item, min(lane_row<S>(threadIdx.x, i), item.rows.size() - 1));
}

// What the variant keeps of the lane's rows.
template <class S>
struct RowLogits {
  static constexpr int n = 2 * S::row_tiles;
  std::array<typename S::Variant::Query, n> query;
  std::array<typename S::Variant::Head, n> head;

  __device__ RowLogits(const typename S::Variant& variant, const PackedItem& item, PackedRows place)
      : RowLogits(variant, item, place, std::make_index_sequence<n>()) {}

 private:
  template <std::size_t... i>
  __device__ RowLogits(const typename S::Variant& variant, const PackedItem& item, PackedRows place,
                       std::index_sequence<i...>)
      : query{variant.query(item.request, lane_place<S>(item, place, i).query - item.query)...},
        head{variant.head(lane_place<S>(item, place, i).qo_head)...} {}
};

// From dot products to logits, where the variant does more than scale them.
template <class S>
__device__ void transform(const typename S::Variant& variant, const RowLogits<S>& logits, std::int32_t first_key,
                          float (&s)[S::row_tiles][S::keys / 8][4]) {
#pragma unroll
  for (int i = 0; i < 2 * S::row_tiles; ++i) {
#pragma unroll
    for (int n = 0; n < S::keys / 4; ++n) {
      float& at = s[i / 2][n / 2][i % 2 * 2 + n % 2];
      const int j = n / 2 * 8 + threadIdx.x % 4 * 2 + n % 2;
      at = variant.logit(at, logits.query[i], logits.head[i], first_key + j);
    }
  }
}

// Does a custom mask hide none of the tile's keys from the lane's rows? seen: as below.
template <class S>
__device__ bool shows_tile(const typename S::Variant& variant, const RowLogits<S>& logits, const Range* seen,
                           std::int32_t first_key) {
  bool all = true;
  if constexpr (S::Variant::may_have_mask) {
    if (!variant.has_mask()) return true;
#pragma unroll
    for (int i = 0; i < 2 * S::row_tiles; ++i) {
      const Range keys = seen[lane_row<S>(threadIdx.x, i)];
      all = all && variant.sees_all(logits.query[i], intersect(keys, first_of(Range{first_key, keys.end}, S::keys)));
    }
  }
  return all;
}

// An edge tile. seen: the keys that each row of the item sees. A score that a row does not see becomes
// -inf, by selection, since it may be NaN.
template <class S>
__device__ void mask(const typename S::Variant& variant, const RowLogits<S>& logits, const Range* seen,
                     std::int32_t first_key, float (&s)[S::row_tiles][S::keys / 8][4]) {
#pragma unroll
  for (int i = 0; i < 2 * S::row_tiles; ++i) {
    const Range keys = seen[lane_row<S>(threadIdx.x, i)];
    // Key j of the tile is seen if j - begin, as an unsigned number, is less than size.
    const std::uint32_t begin = keys.begin - first_key, size = keys.size();
#pragma unroll
    for (int n = 0; n < S::keys / 4; ++n) {
      const int j = n / 2 * 8 + threadIdx.x % 4 * 2 + n % 2;
      const bool sees = j - begin < size && (!variant.has_mask() || variant.sees(logits.query[i], first_key + j));
      float& at = s[i / 2][n / 2][i % 2 * 2 + n % 2];
      at = sees ? at : SoftmaxState<float>::nothing;
    }
  }
}

}  // namespace flashladder::gpu
