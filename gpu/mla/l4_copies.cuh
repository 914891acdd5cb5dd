// What lies in the shared memory of an L4 CTA, and how latent rows and queries come there, by all its threads.
#pragma once

#include <cstdint>

#include "gpu/attention/packed_work.cuh"
#include "gpu/mla/mla.hpp"
#include "gpu/prefill/swizzled_row.cuh"
#include "gpu/ptx/cp_async.cuh"

namespace flashladder::gpu::l4 {

inline constexpr int warps = 8, threads = 32 * warps, tile_rows = 64, keys = 32;
inline constexpr int chunks = (mla_ckv + mla_kpe) / 8, ckv_chunks = mla_ckv / 8;  // 16 bytes each, of a row
inline constexpr int eights = keys / 8;           // of keys: warps that share the rows of S
inline constexpr int features = mla_ckv / warps;  // of o, a warp's

struct Shared {
  uint4 q[tile_rows][chunks];        // swizzled, as latent
  uint4 latent[2][keys][chunks];     // ckv, then kpe
  uint4 p[tile_rows][keys / 8];      // swizzled
  float of_eights[eights][tile_rows];  // what the warps that share a row found: its maximum in their keys, at last its sum
  PackedItem item;
};

// Where the lane's key of a tile lies: warp w copies keys 4 w .. 4 w + 3, eight lanes each.
struct LatentRow {
  std::int64_t ckv = 0, kpe = 0;
  bool seen = false;

  __device__ LatentRow(const LatentPages& kv, const PackedItem& item, std::int32_t tile) {
    const std::uint32_t key = item.keys.begin + static_cast<std::uint32_t>(tile) * keys + threadIdx.x / 8;  // may be 2^31
    seen = key < static_cast<std::uint32_t>(item.keys.end);
    if (!seen) return;
    const KvSlot slot = kv.pages.locate_from(item.first_page, static_cast<std::int32_t>(key));
    ckv = kv.ckv_strides.offset(slot), kpe = kv.kpe_strides.offset(slot);
  }
};

// Keys behind the item's last become zeros: they are weighed with 0, and 0 * NaN would be NaN.
template <class Element>
__device__ void copy_tile(const LatentPages& kv, const LatentRow& row, uint4 (&to)[keys][chunks]) {
  const int key = threadIdx.x / 8, lane = threadIdx.x % 8;
  const auto* ckv = static_cast<const Element*>(kv.ckv) + row.ckv;
  const auto* kpe = static_cast<const Element*>(kv.kpe) + row.kpe;
  for (int c = lane; c < ckv_chunks; c += 8) cp_async_16(&to[key][swizzled(key, c)], ckv + c * 8, row.seen);
  cp_async_16(&to[key][swizzled(key, ckv_chunks + lane)], kpe + lane * 8, row.seen);
}

// The item's rows of q, those behind the last as zeros.
template <class Element>
__device__ void copy_query(const QueryRows& rows, const PeQueries& rotated, PackedRows place, Shared& shared) {
  const int lane = threadIdx.x % 8;
  for (int row = threadIdx.x / 8; row < tile_rows; row += threads / 8) {
    const bool exists = row < shared.item.rows.size();
    const RowPlace at = place(shared.item, exists ? row : 0);
    const auto* nope = static_cast<const Element*>(rows.q) + rows.q_offset(at);
    const auto* pe = static_cast<const Element*>(rotated.q) + rotated.offset(at);
    for (int c = lane; c < ckv_chunks; c += 8) cp_async_16(&shared.q[row][swizzled(row, c)], nope + c * 8, exists);
    cp_async_16(&shared.q[row][swizzled(row, ckv_chunks + lane)], pe + lane * 8, exists);
  }
}

}  // namespace flashladder::gpu::l4
