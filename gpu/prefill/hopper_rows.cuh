// What a thread of a warp group knows of its two rows, and the masks that it lays on their scores.
#pragma once

#include <cstdint>

#include "core/softmax_state.hpp"
#include "gpu/attention/variants.cuh"
#include "gpu/prefill/boxes.hpp"
#include "gpu/prefill/hopper_shape.cuh"
#include "gpu/prefill/row_keys.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

// A thread's two rows of an item, i = 0 and 1: what the variant and the masks ask of them. Only what every step needs is
// kept. Rows that are not there count as the item's last, so that whatever is asked of them exists.
template <class S, class Variant>
struct ItemRows {
  const QueryBoxes& queries;
  std::int32_t first;   // the warp group's first of the item's rows
  Range inner;          // tiles of which all rows of the warp group see every key
  typename Variant::Query variant_query[2];
  typename Variant::Head head[2];

  __device__ ItemRows(const Variant& variant, const KeyRules& rules, const PackedItem& item, const QueryBoxes& queries_,
                      const KeyTiles<S::keys>& tiles, int group)
      : queries(queries_), first(group * queries.group_rows),
        variant_query{variant.query(item.request, query(item, 0)), variant.query(item.request, query(item, 1))},
        head{variant.head(place(item, row(0)).qo_head), variant.head(place(item, row(1)).qo_head)} {
    const Range all = keys_of_all(rules, item, place(item, first).query - item.query,
                                  place(item, first + queries.group_rows - 1).query - item.query);
    inner = {div_up(all.begin - tiles.begin, S::keys), (all.end - tiles.begin) / S::keys};
  }
  __device__ std::int32_t row(int i) const {
    const auto t = static_cast<unsigned>(thread_again());
    return first + (t % S::group_threads / 32 * 16 + t % 32 / 4 + 8 * static_cast<unsigned>(i));
  }
  // PackedRows, without a division.
  __device__ RowPlace place(const PackedItem& item, std::int32_t row) const {
    const std::int32_t packed = item.rows.begin + min(row, item.rows.size() - 1);
    const std::int32_t query = queries.by_pack.quotient(packed);
    return {item.query + query, item.head * queries.pack() + packed - query * queries.pack()};
  }
  __device__ std::int32_t query(const PackedItem& item, int i) const { return place(item, row(i)).query - item.query; }
};

// Scores become logits where the variant does more than scale; keys that a row does not see become -inf.
template <class S, class Variant>
__device__ void mask_scores(float (&s)[S::keys / 2], const Variant& variant, const KeyRules& rules, const PackedItem& item,
                            const ItemRows<S, Variant>& rows, std::int32_t align, int n) {
  const auto mine = [&] {  // the first of this thread's keys
    const std::uint32_t first = KeyTiles<S::keys>(item.keys, align).first_key(n);
    return static_cast<std::int32_t>(first + static_cast<unsigned>(thread_again()) % 4 * 2);
  };
  if constexpr (!Variant::only_scales) {
    const std::int32_t first = mine();
#pragma unroll
    for (int x = 0; x < S::keys / 2; ++x) {
      const int i = x / 2 % 2;
      s[x] = variant.logit(s[x], rows.variant_query[i], rows.head[i], first + x / 4 * 8 + x % 2);
    }
  }
  if (rows.inner.contains(n) && !variant.every_tile_is_edge()) [[likely]] return;
  const std::int32_t first = mine();
  const Range seen[2] = {row_keys(rules, item, rows.query(item, 0)), row_keys(rules, item, rows.query(item, 1))};
#pragma unroll
  for (int x = 0; x < S::keys / 2; ++x) {
    const int i = x / 2 % 2;
    const std::int32_t key = first + x / 4 * 8 + x % 2;
    bool sees = seen[i].contains(key);
    if constexpr (!Variant::only_scales) {
      if (variant.every_tile_is_edge()) sees = sees && variant.sees(rows.variant_query[i], key);
    }
    if (!sees) s[x] = SoftmaxState<float>::nothing;
  }
}

}  // namespace flashladder::gpu
