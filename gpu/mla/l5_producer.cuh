// The warp group that copies: queries by all its threads, tiles of latent rows as boxes that one warp asks the copy engine
// for, or, where pages are no multiples of 8 tokens, by all threads too, 16 bytes at a time.
#pragma once

#include <cstdint>

#include "core/divisor.hpp"
#include "core/swizzle.hpp"
#include "gpu/mla/l5_shape.cuh"
#include "gpu/mla/work_stream.cuh"
#include "gpu/prefill/hopper_group.cuh"
#include "gpu/ptx/cp_async.cuh"
#include "gpu/ptx/cp_async_arrive.cuh"
#include "gpu/ptx/tma.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu::l5 {

// Kernel parameters, made on the host in every run, since pointers change from layer to layer.
struct Latent {
  // {64 features, 8 tokens, features / 64, page_size / 8, pages}. ckv in boxes of whole rows, and in halves of 8 rows.
  CUtensorMap rows{}, halves{}, kpe{};
  LatentPages cache;                  // for whoever copies without boxes
  Divisor by_page_size;
  std::int32_t box_rows = 0;          // tokens of a box of kpe or of whole rows, a power of two up to 64; 0: no boxes
  std::int32_t first_key_mask = -1;   // a tile begins at a multiple of box_rows

  FL_HD bool boxes() const { return box_rows > 0; }
};

// Of q. The queries of a row tile, in the order of its packed rows.
struct Queries {
  QueryRows rows;
  PeQueries rotated;
  Divisor by_heads;

  __device__ RowPlace place(const PackedItem& item, std::int32_t row) const {
    const std::int32_t packed = item.rows.begin + row, query = by_heads.quotient(packed);
    return {item.query + query, packed - query * by_heads.number};
  }
  // Does one row tile hold all queries of the item's request? Then nobody else reads these keys.
  __device__ bool alone(const PackedItem& item) const { return item.request.qo_len() * by_heads.number <= l5::rows; }
};

// Where 16 bytes of a tile go: chunk c of a token's row, in atoms of 64 features that lie side by side.
__device__ inline int chunk_at(int token, int chunk, int atoms) {
  return (token / 8 * atoms + chunk / 8) * atom_bytes + token % 8 * 128 +
         swizzled_chunk(Swizzle::bytes_128, token % 8, chunk % 8) * chunk_bytes;
}

// The item's rows of q, 16 of a warp; those behind the last as zeros.
template <class Element>
__device__ void copy_queries(const Queries& queries, const PackedItem& item, Shared& shared) {
  const int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 16, row = first + lane % 16;
  const bool mine = row < item.rows.size();
  const RowPlace place = queries.place(item, mine ? row : 0);
  const std::int64_t nope = queries.rows.q_offset(place), pe = queries.rotated.offset(place);
  const auto at = [&](int r, int panel, int chunk) {
    return shared.q[panel] + r * 128 + swizzled_chunk(Swizzle::bytes_128, r, chunk) * chunk_bytes;
  };
#pragma unroll 2
  for (int i = 0; i < 16; ++i) {
    const auto* from = static_cast<const Element*>(queries.rows.q) + __shfl_sync(all_lanes, nope, i);
    const bool exists = first + i < item.rows.size();
    for (int c = lane; c < mla_ckv / 8; c += 32) cp_async_16(at(first + i, c / 8, c % 8), from + c * 8, exists);
  }
#pragma unroll 2
  for (int i = lane / 8; i < 16; i += 4) {
    const auto* from = static_cast<const Element*>(queries.rotated.q) + __shfl_sync(all_lanes, pe, i);
    cp_async_16(at(first + i, rope_panel, lane % 8), from + lane % 8 * 8, first + i < item.rows.size());
  }
}

// This lane's group of 8 tokens of a tile that begins at `token`; a box is one or more. Groups at `end` or behind are not looked
// up: a page behind the last is all zeros. (Unsigned: what lies behind the last of 2^31 - 1 tokens must not wrap.)
struct BoxAt {
  std::int32_t group = 0, page = -1;

  BoxAt() = default;
  __device__ BoxAt(const Latent& kv, std::int32_t first_page, std::uint32_t token, std::uint32_t end) {
    const PageList& pages = kv.cache.pages;
    const std::uint32_t mine = threadIdx.x % 32 * 8;
    if (mine >= keys) return;
    page = pages.num_pages;
    if (token + mine >= end) return;
    const auto at = static_cast<std::int32_t>(token + mine);
    const std::int32_t logical = kv.by_page_size.quotient(at), position = first_page + logical;
    group = (at - logical * pages.page_size) / 8, page = pages.indices ? pages.indices[position] : position;
  }
  // One warp: the tile's parts, each as soon as what lay there has been read. Where memory is what the tiles wait for, ckv
  // is asked for in whole rows, in the order of memory, which reads them faster than halves of rows do.
  template <class Element>
  __device__ void copy(const Latent& kv, Shared& shared, const RingSlot<stages>& at, std::uint32_t, bool alone) const {
    const int lane = threadIdx.x % 32;
    Mbarrier (&full)[parts] = shared.barriers.full[at.stage];
    Mbarrier (&empty)[parts] = shared.barriers.empty[at.stage];
    const L2Policy policy = alone ? L2Policy::evict_first : L2Policy::evict_last;
    const auto ask = [&](const CUtensorMap& map, Part part, std::int32_t tokens) {
      if (page < 0 || lane * 8 % tokens != 0) return;
      unsigned char* to = shared.tiles[at.stage].of(part) + lane * group_bytes(part);
      copy_box(map, to, full[part], policy, {0, 0, part == right ? half_atoms : 0, group, page});
    };
    const auto copy_part = [&](const CUtensorMap& map, Part part, std::int32_t tokens) {
      empty[part].wait(at.parity ^ 1);
      if (lane == 0) full[part].arrive_expecting(bytes_of(part));
      __syncwarp();  // announced before asked for
      ask(map, part, tokens);
    };
    copy_part(kv.kpe, rope, kv.box_rows);
    if (alone) {
      empty[left].wait(at.parity ^ 1), empty[right].wait(at.parity ^ 1);
      if (lane == 0) full[left].arrive_expecting(2 * half_bytes), full[right].arrive();
      __syncwarp();  // announced before asked for
      ask(kv.rows, left, kv.box_rows);
    } else {
      copy_part(kv.halves, left, 8), copy_part(kv.halves, right, 8);
    }
  }
};

// Where this lane's token of a tile lies, 16 tokens a warp; of no account where there is none.
struct TokenAt {
  std::int64_t ckv = 0, kpe = 0;

  TokenAt() = default;
  __device__ TokenAt(const Latent& latent, std::int32_t first_page, std::uint32_t token, std::uint32_t end) {
    const LatentPages& kv = latent.cache;
    token += threadIdx.x / 32 * 16 + threadIdx.x % 16;
    if (token >= end) return;
    const KvSlot slot = kv.pages.locate_from(first_page, static_cast<std::int32_t>(token));
    ckv = kv.ckv_strides.offset(slot), kpe = kv.kpe_strides.offset(slot);
  }
  // All threads: the same tile; tokens from number `tokens` on become zeros.
  template <class Element>
  __device__ void copy(const Latent& kv, Shared& shared, const RingSlot<stages>& at, std::uint32_t tokens, bool) const {
    const int lane = threadIdx.x % 32;
    const unsigned first = threadIdx.x / 32 * 16;
    Tile& tile = shared.tiles[at.stage];
    Barriers& barriers = shared.barriers;
    barriers.empty[at.stage][rope].wait(at.parity ^ 1);
#pragma unroll
    for (int i = lane / 8; i < 16; i += 4) {
      const auto* from = static_cast<const Element*>(kv.cache.kpe) + __shfl_sync(all_lanes, kpe, i);
      cp_async_16(tile.rope + chunk_at(first + i, lane % 8, 1), from + lane % 8 * 8, first + i < tokens);
    }
    cp_async_arrive(barriers.full[at.stage][rope]);
    const auto copy_half = [&](Part part) {
      barriers.empty[at.stage][part].wait(at.parity ^ 1);
      const auto* half = static_cast<const Element*>(kv.cache.ckv) + part * half_features + lane * 8;
#pragma unroll 4
      for (int i = 0; i < 16; ++i) {
        const Element* from = half + __shfl_sync(all_lanes, ckv, i);
        cp_async_16(tile.of(part) + chunk_at(first + i, lane, row_atoms), from, first + i < tokens);
      }
      cp_async_arrive(barriers.full[at.stage][part]);
    };
    copy_half(left), copy_half(right);
  }
};

// The tiles of an item, from the last to the first. Page ids are asked for a tile ahead, the first of them before the queries
// are. Where: BoxAt or TokenAt.
template <class Element, class Where, class CopyQueries>
__device__ void copy_tiles(const Latent& kv, const PackedItem& item, Shared& shared, std::uint32_t& filled, bool alone,
                           const CopyQueries& copy_queries) {
  const KeyTiles<keys> tiles(item.keys, kv.first_key_mask);
  const std::int32_t first_page = item.first_page;
  const std::uint32_t end = item.keys.end;
  const auto locate = [&](int n) { return n < 0 ? Where{} : Where(kv, first_page, tiles.first_key(n), end); };
  Where now = locate(tiles.count - 1);
  copy_queries();
  for (int n = tiles.count - 1; n >= 0; --n) {
    const Where upcoming = locate(n - 1);
    const std::uint32_t first_key = tiles.first_key(n), tokens = end > first_key ? end - first_key : 0;
    now.template copy<Element>(kv, shared, RingSlot<stages>(filled++), tokens, alone);
    now = upcoming;
  }
}

template <class Element>
__device__ void produce(Shared& shared, const Queries& queries, const Latent& kv, const PackedParams& plan, bool claimed) {
  Barriers& barriers = shared.barriers;
  const bool first_warp = threadIdx.x < 32;
  std::uint32_t filled = 0;         // tiles so far
  WorkStream works(plan, claimed);  // of the first warp
  if (first_warp) works.begin();
  for (std::uint32_t turn = 0;; ++turn) {
    PackedItem& item = shared.items[turn % 2];
    barriers.q_empty.wait(turn % 2 ^ 1);  // the queries before are read, and so is the record that lay here
    if (first_warp) works.take(item);
    sync_group(0);  // the record is there for the group
    if (item.rows.empty()) {
      barriers.q_full.arrive();
      if (threadIdx.x == 0) barriers.q_full.arrive();
      return;
    }
    const auto start_queries = [&] {
      copy_queries<Element>(queries, item, shared);
      cp_async_arrive(barriers.q_full);
      if (threadIdx.x == 0) barriers.q_full.arrive();  // the record, which this thread's barrier has made its own
    };
    const bool alone = queries.alone(item);
    if (!kv.boxes()) {
      copy_tiles<Element, TokenAt>(kv, item, shared, filled, alone, start_queries);
    } else if (first_warp) {
      copy_tiles<Element, BoxAt>(kv, item, shared, filled, alone, start_queries);
    } else {
      start_queries();
    }
  }
}

}  // namespace flashladder::gpu::l5
