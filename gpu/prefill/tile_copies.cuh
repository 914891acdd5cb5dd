// Tiles of K and V on their way from pages to shared memory, by all threads of a CTA, swizzled.
//
// Eight lanes copy a row: 128 bytes at once, as often as the row is long. Where a row's token lies is found by one lane of
// the warp that copies it, for all tiles of a round (32 tokens of the warp), and is handed on through shared memory. A page
// id is asked for well before its first copy, and becomes an address only when it has had the time to come.
//
// Rows behind the item's last key are not read and become zeros: they are weighed with 0, and 0 * NaN would be NaN.
#pragma once

#include <cstdint>

#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/prefill/swizzled_row.cuh"
#include "gpu/ptx/cp_async.cuh"

namespace flashladder::gpu {

// Where the 32 tokens of a warp's round lie in the caches, this round's and the next one's.
template <class Element>
struct RoundSlots {
  const Element *k[2][32], *v[2][32];
};

// S: Element, vo, keys (of a tile), row_tiles, threads. The tiles of an item are 0, 1, 2 ...
template <class S>
class TileCopies {
  using Element = typename S::Element;
  static constexpr int at_once = S::threads / 8, passes = S::keys / at_once;  // rows
  static constexpr int warp_tokens = 4 * passes, round = 32 / warp_tokens;    // of a tile; tiles
  static constexpr int unrolled = S::row_tiles * S::vo < 256 ? passes : 1;    // registers are short where o takes many
  static_assert(S::keys % at_once == 0 && round >= 2, "a round is several whole tiles");
  static_assert(at_once % 8 == 0, "a thread's rows are swizzled alike");

 public:
  // item, and slots of this warp, lie in shared memory.
  __device__ TileCopies(const KvPages& kv, const PackedItem& item, RoundSlots<Element>& slots)
      : kv_(kv), item_(item), slots_(slots) {}

  // Asks where this lane's token lies, if a round begins with this tile; know() must follow before the tile's first copy,
  // and the copies of the round before the last must have been started. Unsigned: a token behind the last of 2^31 - 1 must
  // not wrap.
  __device__ KvSlot ask(std::int32_t first_tile) const {
    const int lane = threadIdx.x % 32;
    const std::uint32_t tile = first_tile + lane / warp_tokens, token = tile * S::keys + row_of_warp(lane % warp_tokens);
    if (first_tile % round != 0 || token >= keys()) return {0, 0};
    return kv_.pages.locate_from(item_.first_page, static_cast<std::int32_t>(item_.keys.begin + token));
  }
  __device__ void know(std::int32_t first_tile, KvSlot slot) {
    if (first_tile % round != 0) return;
    const int lane = threadIdx.x % 32;
    const auto *k = static_cast<const Element*>(kv_.k), *v = static_cast<const Element*>(kv_.v);
    slots_.k[first_tile / round % 2][lane] = k + kv_.k_strides.offset(slot, item_.kv_head);
    slots_.v[first_tile / round % 2][lane] = v + kv_.v_strides.offset(slot, item_.kv_head);
    __syncwarp();  // the other lanes read them
  }

  // Start the copy of a tile.
  template <int chunks>
  __device__ void copy_k(std::int32_t tile, uint4 (&to)[S::keys][chunks]) const {
    copy(tile, slots_.k, to);
  }
  template <int chunks>
  __device__ void copy_v(std::int32_t tile, uint4 (&to)[S::keys][chunks]) const {
    copy(tile, slots_.v, to);
  }

 private:
  __device__ std::uint32_t keys() const { return item_.keys.size(); }
  // Row of the tile that is the warp's n-th.
  static __device__ int row_of_warp(int n) { return n / 4 * at_once + static_cast<int>(threadIdx.x) / 32 * 4 + n % 4; }

  template <int chunks>
  __device__ void copy(std::int32_t tile, const Element* const (&slots)[2][32], uint4 (&to)[S::keys][chunks]) const {
    const int lane = threadIdx.x % 32;
#pragma unroll unrolled
    for (int pass = 0; pass < passes; ++pass) {
      const int n = pass * 4 + lane / 8, row = row_of_warp(n);
      const bool full = static_cast<std::uint32_t>(tile) * S::keys + row < keys();
      const Element* token = slots[tile / round % 2][tile % round * warp_tokens + n];
#pragma unroll
      for (int chunk = 0; chunk < chunks; chunk += 8) {
        cp_async_16(&to[row][chunk + swizzled(row, lane % 8)], token + (chunk + lane % 8) * 8, full);
      }
    }
  }

  const KvPages& kv_;
  const PackedItem& item_;
  RoundSlots<Element>& slots_;
};

}  // namespace flashladder::gpu
