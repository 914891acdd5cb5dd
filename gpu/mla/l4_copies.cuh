// What lies in the shared memory of an L4 CTA, and how latent rows and queries come there, by all its threads.
//
// Rows of 8-bit elements (E4M3) arrive as bytes, half as many as else, and are widened where they lie: each thread converts
// what it has copied itself to q's 16 bits, which is exact, and from there on everything is that of 16-bit rows. Such a tile
// and two that arrive, bytes, take the room of two tiles.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/float8.hpp"
#include "gpu/attention/packed_work.cuh"
#include "gpu/element.cuh"
#include "gpu/mla/mla.hpp"
#include "gpu/prefill/swizzled_row.cuh"
#include "gpu/ptx/cp_async.cuh"

namespace flashladder::gpu::l4 {

inline constexpr int warps = 8, threads = 32 * warps, tile_rows = 64, keys = 32;
inline constexpr int chunks = (mla_ckv + mla_kpe) / 8, ckv_chunks = mla_ckv / 8;  // 16 bytes each, of a row
inline constexpr int eights = keys / 8;           // of keys: warps that share the rows of S
inline constexpr int features = mla_ckv / warps;  // of o, a warp's

using Tile = uint4[keys][chunks];         // of 16-bit elements: ckv, then kpe; swizzled
using NarrowTile = uint4[keys][chunks / 2];  // of bytes, as they come

struct Shared {
  uint4 q[tile_rows][chunks];        // swizzled, as latent
  union {
    Tile latent[2];
    struct {
      Tile widened;
      NarrowTile arriving[2];
    } of_bytes;
  };
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
__device__ void copy_tile(const LatentPages& kv, const LatentRow& row, Tile& to) {
  const int key = threadIdx.x / 8, lane = threadIdx.x % 8;
  const auto* ckv = static_cast<const Element*>(kv.ckv) + row.ckv;
  const auto* kpe = static_cast<const Element*>(kv.kpe) + row.kpe;
  for (int c = lane; c < ckv_chunks; c += 8) cp_async_16(&to[key][swizzled(key, c)], ckv + c * 8, row.seen);
  cp_async_16(&to[key][swizzled(key, ckv_chunks + lane)], kpe + lane * 8, row.seen);
}

template <class Element>
__device__ void copy_tile(const LatentPages& kv, const LatentRow& row, NarrowTile& to) {
  const int key = threadIdx.x / 8, lane = threadIdx.x % 8;
  const auto* ckv = static_cast<const Float8E4M3*>(kv.ckv) + row.ckv;
  const auto* kpe = static_cast<const Float8E4M3*>(kv.kpe) + row.kpe;
  for (int c = lane; c < ckv_chunks / 2; c += 8) cp_async_16(&to[key][c], ckv + c * 16, row.seen);
  if (lane < mla_kpe / 16) cp_async_16(&to[key][ckv_chunks / 2 + lane], kpe + lane * 16, row.seen);
}

// Four E4M3 bytes as neighbours of 16 bits.
template <class Element>
__device__ uint2 widened(std::uint32_t four) {
  const uint2 halves = e4m3_to_f16(four);
  if constexpr (std::is_same_v<Element, Half>) return halves;
  const float2 low = to_floats<Half>(halves.x), high = to_floats<Half>(halves.y);
  return {pack<Element>(low.x, low.y), pack<Element>(high.x, high.y)};
}

// What this thread has copied, and nothing else.
template <class Element>
__device__ void widen_tile(const NarrowTile& from, Tile& to) {
  const int key = threadIdx.x / 8;
  for (int c = threadIdx.x % 8; c < chunks / 2; c += 8) {
    const uint4 sixteen = from[key][c];
    const uint2 a = widened<Element>(sixteen.x), b = widened<Element>(sixteen.y);
    const uint2 d = widened<Element>(sixteen.z), e = widened<Element>(sixteen.w);
    to[key][swizzled(key, 2 * c)] = {a.x, a.y, b.x, b.y};
    to[key][swizzled(key, 2 * c + 1)] = {d.x, d.y, e.x, e.y};
  }
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
