// A warp's tiles, over all the items of its queue: one stream of copies that does not stop where an item ends.
//
// Tile t of an item (16 tokens) belongs to warp t % count. A round is two tiles of a warp: lanes 0-15 locate the tokens of
// one, 16-31 those of the next. The page ids of a round are asked for a round before its first copy, and waited for when that
// begins; a queue's next item is asked for one item before.
//
// Tokens are unsigned: what lies behind the last of 2^31 - 1 must not wrap to a negative number.
#pragma once

#include <cstdint>

#include "gpu/attention/packed_plan.hpp"
#include "gpu/attention/token_slots.cuh"
#include "gpu/decode/tile_ring.cuh"
#include "gpu/ptx/cp_async.cuh"
#include "gpu/ptx/prefetch.cuh"

namespace flashladder::gpu {

// The warps among which the tiles of an item are dealt: those of a group of threads.
template <class Group>
struct GroupWarps {
  static constexpr std::uint32_t count = Group::threads / 32;
  static __device__ std::uint32_t rank() { return static_cast<std::uint32_t>(Group::warp()); }
};

template <class S, class Warps>
class WarpTileStream {
 public:
  __device__ WarpTileStream(const KvPages& kv, const PackedItem* items, const PackedQueue& queue)
      : kv_(kv), items_(items), item_(queue.first), next_(queue.begin), end_(queue.end), token_(first_token(queue.first)) {
    if (next_ < end_) upcoming_ = items_[next_];
    const Round first = next_round();
    after_ = next_round();  // asked for before the first is waited for
    now_ = located(first);
  }

  // Asks the L2 cache for the first two tiles: what a kernel may do before it may read them.
  __device__ void prefetch() const {
    if (!now_.slots.seen) return;
    prefetch_l2(static_cast<const Stored*>(kv_.k) + now_.slots.k, S::head_dim * sizeof(Stored));
    prefetch_l2(static_cast<const Stored*>(kv_.v) + now_.slots.v, S::head_dim * sizeof(Stored));
  }

  // Starts the copy of the next tile, if there is one, into the ring's next stage. Always commits a group: the count of
  // groups says what has arrived.
  __device__ void copy_next(TileRing<S>& ring) {
    if (copied_ == now_.tiles) {
      now_ = located(after_);
      after_ = next_round();
      copied_ = 0;
    }
    if (copied_ < now_.tiles) {
      ring.copy(stage_, static_cast<const Stored*>(kv_.k), static_cast<const Stored*>(kv_.v), now_.slots,
                copied_ * tile_tokens);
      ++copied_;
      stage_ = stage_ + 1 == S::stages ? 0 : stage_ + 1;
    }
    cp_async_commit();
  }

 private:
  using Stored = typename S::Stored;
  struct Round {
    TokenPlace place;
    int tiles = 0;  // 0: the stream has ended
  };
  struct Located {
    TokenSlots slots;
    int tiles = 0;
  };

  // When the round's page ids have come.
  __device__ Located located(const Round& round) const { return {TokenSlots(kv_, round.place), round.tiles}; }

  static __device__ std::uint32_t first_token(const PackedItem& item) {
    return item.keys.begin + Warps::rank() * tile_tokens;
  }

  __device__ Round next_round() {
    while (token_ >= end_of_item() && next_ < end_) {  // this warp has no tile left of this item, or none at all
      item_ = upcoming_;
      token_ = first_token(item_);
      if (++next_ < end_) upcoming_ = items_[next_];
    }
    Round round;
    if (token_ >= end_of_item()) return round;
    constexpr std::uint32_t turn = Warps::count * tile_tokens;  // from a warp's tile to its next
    const std::uint32_t lane = threadIdx.x % 32;
    round.tiles = token_ + turn < end_of_item() ? 2 : 1;
    round.place = TokenPlace(kv_, item_.first_page, item_.kv_head, token_ + lane / tile_tokens * turn + lane % tile_tokens,
                             end_of_item());
    token_ += 2 * turn;
    return round;
  }

  __device__ std::uint32_t end_of_item() const { return static_cast<std::uint32_t>(item_.keys.end); }

  const KvPages& kv_;
  const PackedItem* items_;
  PackedItem item_, upcoming_;  // where next_round() is, and the item after
  std::int32_t next_, end_;     // of the queue: upcoming_ is items_[next_]
  std::uint32_t token_;         // the warp's next tile in item_ begins here
  Located now_;
  Round after_;
  int copied_ = 0, stage_ = 0;  // tiles of now_; the ring's stage that comes next
};

}  // namespace flashladder::gpu
