// What a warp of a persistent decode keeps of its variant while it computes one item. Used by D6 and D7.
#pragma once

#include <cstdint>
#include <utility>

#include "gpu/attention/packed_work.cuh"
#include "gpu/decode/tile_ring.cuh"

namespace flashladder::gpu {

// What the variant keeps of an item: its one query, and the heads that this lane computes.
template <class S, class Variant>
struct ItemLogits {
  typename Variant::Query query;
  typename Variant::Head heads[S::head_tiles * 2];  // head i: row i / 2 * 8 + lane % 4 * 2 + i % 2

  __device__ ItemLogits(const Variant& variant, const PackedItem& item, std::int32_t pack)
      : ItemLogits(variant, item, pack, std::make_index_sequence<S::head_tiles * 2>()) {}

 private:
  template <std::size_t... i>
  __device__ ItemLogits(const Variant& variant, const PackedItem& item, std::int32_t pack, std::index_sequence<i...>)
      : query(variant.query(item.request, 0)), heads{head(variant, item, pack, static_cast<int>(i))...} {}

  static __device__ typename Variant::Head head(const Variant& variant, const PackedItem& item, std::int32_t pack, int i) {
    const int row = i / 2 * heads_in_tile + static_cast<int>(threadIdx.x) % 4 * 2 + i % 2;
    return variant.head(OneQueryRows{pack}(item, row).qo_head);
  }
};

}  // namespace flashladder::gpu
