// What a thread of a warp group knows of its two rows, and the masks that it lays on their scores.
#pragma once

#include <cstdint>

#include "core/mask_bits.hpp"
#include "core/softmax_state.hpp"
#include "gpu/attention/variants.cuh"
#include "gpu/prefill/boxes.hpp"
#include "gpu/prefill/hopper_shape.cuh"
#include "gpu/prefill/row_keys.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

// Of a thread's two rows: the keys of the item that they see.
struct SeenKeys {
  Range row[2];
};

// A thread's two rows of an item, i = 0 and 1: what the variant and the masks ask of them. Only what every step needs is
// kept. Rows that are not there count as the item's last, so that whatever is asked of them exists.
template <class S, class Variant>
struct ItemRows {
  const QueryBoxes& queries;
  int group;            // whose rows they are
  Range inner;          // tiles of which all rows of the warp group see every key
  typename Variant::Query variant_query[2];
  typename Variant::Head head[2];

  __device__ ItemRows(const Variant& variant, const KeyRules& rules, const PackedItem& item, const QueryBoxes& queries_,
                      const KeyTiles<S::keys>& tiles, int group_)
      : queries(queries_), group(group_),
        variant_query{variant.query(item.request, query(item, 0)), variant.query(item.request, query(item, 1))},
        head{variant.head(place(item, row(0)).qo_head), variant.head(place(item, row(1)).qo_head)} {
    const Range all = keys_of_all(rules, item, place(item, first()).query - item.query,
                                  place(item, first() + queries.group_rows - 1).query - item.query);
    // By shuffles, so that the compiler knows them to be the same for the warp, and keeps them in uniform registers.
    inner = {__shfl_sync(all_lanes, div_up(all.begin - tiles.begin, S::keys), 0),
             __shfl_sync(all_lanes, (all.end - tiles.begin) / S::keys, 0)};
  }
  __device__ std::int32_t first() const { return group * queries.group_rows; }  // the warp group's, of the item's rows
  __device__ std::int32_t row(int i) const {
    const auto t = static_cast<unsigned>(thread_again());
    return first() + static_cast<std::int32_t>(t % S::group_threads / 32 * 16 + t % 32 / 4 + 8 * static_cast<unsigned>(i));
  }
  // Rows [first, end) of the item are the warp group's and exist.
  __device__ std::int32_t end(const PackedItem& item) const { return min(first() + queries.group_rows, item.rows.size()); }
  // PackedRows, without a division.
  __device__ RowPlace place(const PackedItem& item, std::int32_t row) const {
    const std::int32_t packed = item.rows.begin + min(row, item.rows.size() - 1);
    const std::int32_t query = queries.by_pack.quotient(packed);
    return {item.query + query, item.head * queries.pack() + packed - query * queries.pack()};
  }
  __device__ std::int32_t query(const PackedItem& item, int i) const { return place(item, row(i)).query - item.query; }
  __device__ SeenKeys seen(const KeyRules& rules, const PackedItem& item) const {
    return {{row_keys(rules, item, query(item, 0)), row_keys(rules, item, query(item, 1))}};
  }
};

// Scores of keys outside of what this thread's rows see, [begin, end) from its first key, become -inf. Which key a score is
// of is known when the kernel is compiled, so that a score costs a comparison with a constant, and a choice. Few tiles have
// keys before a row's first: most threads need not ask for them.
template <int scores>
__device__ void hide(float (&s)[scores], const std::int32_t (&begin)[2], const std::int32_t (&end)[2]) {
#pragma unroll
  for (int x = 0; x < scores; ++x) {
    if (x / 4 * 8 + x % 2 >= end[x / 2 % 2]) s[x] = SoftmaxState<float>::nothing;
  }
  if (begin[0] <= 0 && begin[1] <= 0) return;
#pragma unroll
  for (int x = 0; x < scores; ++x) {
    if (x / 4 * 8 + x % 2 < begin[x / 2 % 2]) s[x] = SoftmaxState<float>::nothing;
  }
}

// Scores become logits, by the variant's short form alone where all of the warp's are small: the same bits. key: the first of
// this thread's.
template <class S, class Variant>
__device__ void logits_of_scores(float (&s)[S::keys / 2], const Variant& variant, const ItemRows<S, Variant>& rows,
                                 std::int32_t key) {
  if constexpr (Variant::has_small_form) {
    float most = 0;
#pragma unroll
    for (int x = 0; x < S::keys / 2; ++x) most = fmaxf(most, fabsf(s[x]));
    if (__all_sync(all_lanes, variant.small(most))) [[likely]] {
#pragma unroll
      for (int x = 0; x < S::keys / 2; ++x) s[x] = variant.logit_of_small(s[x]);
      return;
    }
  }
#pragma unroll
  for (int x = 0; x < S::keys / 2; ++x) {
    const int i = x / 2 % 2;
    s[x] = variant.logit(s[x], rows.variant_query[i], rows.head[i], key + x / 4 * 8 + x % 2);
  }
}

// What of a custom mask a warp looks at for a tile of keys: bits, a word for 32 keys. The words of its 16 rows lie among its
// lanes, lane % 4 has the lane's two rows' word number lane % 4. Mostly all bits are set, a vote finds that out, and nothing
// else need be asked. Made before the tile's scores are there, so that nobody waits for the words.
template <class S, class Variant>
struct TileMask {
  static constexpr int words = S::keys / keys_of_word;  // of a row
  static_assert(S::keys % keys_of_word == 0 && words <= 4, "four lanes have a row's words");
  const Variant& variant;
  const ItemRows<S, Variant>& rows;
  std::uint32_t first_key;  // of the tile
  std::uint32_t mine[2] = {~0u, ~0u};

  __device__ TileMask(const Variant& variant_, const PackedItem& item, const ItemRows<S, Variant>& rows_,
                      std::int32_t first_key_mask, int n)
      : variant(variant_), rows(rows_), first_key(KeyTiles<S::keys>(item.keys, first_key_mask).first_key(n)) {
    if (!variant.has_mask()) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (lane() < words) mine[i] = __ldg(word_of(i));
    }
  }

  // Keys behind the request's last are the ranges' business, whatever bits are there.
  __device__ void hide(float (&s)[S::keys / 2]) {
    if (!variant.has_mask()) return;
    begin_within_word();
    if (__all_sync(all_lanes, (mine[0] & mine[1]) == ~0u)) [[likely]] return;
    const std::uint32_t first_of_thread = lane() * 2;
#pragma unroll
    for (int x = 0; x < S::keys / 2; x += 16) {  // 32 keys, two rows
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::uint32_t word = __shfl_sync(all_lanes, mine[i], x / 16, 4) >> first_of_thread;
#pragma unroll
        for (int y = 0; y < 8; ++y) {
          if ((word >> (y / 2 * 8 + y % 2) & 1) == 0) s[x + y / 2 * 4 + i * 2 + y % 2] = SoftmaxState<float>::nothing;
        }
      }
    }
  }

 private:
  static __device__ std::uint32_t lane() { return static_cast<std::uint32_t>(thread_again()) % 4; }
  __device__ const std::uint32_t* word_of(int i) const {
    return variant.row(rows.variant_query[i]) + (first_key / keys_of_word + lane());
  }
  // Behind a window tiles may: then a lane's 32 keys lie in two words. Asked for only here, where few tiles come by.
  __device__ void begin_within_word() {
    const std::uint32_t before = first_key % keys_of_word;
    if (before == 0) [[likely]] return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (lane() < words) mine[i] = __funnelshift_r(mine[i], __ldg(word_of(i) + 1), before);
    }
  }
};
template <class S, class Variant>
  requires(!Variant::may_have_mask)
struct TileMask<S, Variant> {
  __device__ TileMask(const Variant&, const PackedItem&, const ItemRows<S, Variant>&, std::int32_t, int) {}
  __device__ void hide(float (&)[S::keys / 2]) {}
};

// Scores become logits where the variant does more than scale; keys that a row does not see become -inf. mask: the tile's.
// seen: asked for SeenKeys of this thread's rows where the tile is an edge tile.
template <class S, class Variant, class Seen>
__device__ void mask_scores(float (&s)[S::keys / 2], const Variant& variant, const PackedItem& item,
                            const ItemRows<S, Variant>& rows, std::int32_t first_key_mask, int n, const Seen& seen,
                            TileMask<S, Variant> mask) {
  const auto first_of_thread = [&] {
    const std::uint32_t first_key = KeyTiles<S::keys>(item.keys, first_key_mask).first_key(n);
    return first_key + static_cast<unsigned>(thread_again()) % 4 * 2;  // unsigned: a tile may end behind 2^31 - 1
  };
  if constexpr (!Variant::only_scales) logits_of_scores<S>(s, variant, rows, static_cast<std::int32_t>(first_of_thread()));
  mask.hide(s);
  if (rows.inner.contains(n)) [[likely]] return;
  const std::uint32_t key = first_of_thread();
  const SeenKeys keys = seen();
  const auto from_key = [&](std::int32_t j) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(j) - key); };
  const std::int32_t begin[2] = {from_key(keys.row[0].begin), from_key(keys.row[1].begin)};
  const std::int32_t end[2] = {from_key(keys.row[0].end), from_key(keys.row[1].end)};
  hide(s, begin, end);
}
template <class S, class Seen>
__device__ void mask_scores(float (&s)[S::keys / 2], const Scaled& variant, const PackedItem& item,
                            const ItemRows<S, Scaled>& rows, std::int32_t first_key_mask, int n, const Seen& seen) {
  mask_scores<S>(s, variant, item, rows, first_key_mask, n, seen, TileMask<S, Scaled>(variant, item, rows, first_key_mask, n));
}

}  // namespace flashladder::gpu
