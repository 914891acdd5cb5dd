// Policies none and fixed on the GPU (planner/planner.cpp and list_schedule.cpp are the host's).
//
//   1  sums over the requests say where each one's items, merges and partial rows lie
//   2  one thread gives the items, in order, each to the CTA that is least loaded so far: a rule without a short cut, since
//      who gets an item depends on all before
//   3  sums over the CTAs say where their queues begin
//   4  all records are written in any order
#pragma once

#include <cstdint>

#include "gpu/plan/block_sums.hpp"
#include "gpu/plan/plan_memory.hpp"
#include "gpu/plan/write_records.hpp"

namespace flashladder::gpu {

class ChunkedPlan {
 public:
  FL_HD ChunkedPlan(const DecodePlanParams& p, const DecodePlanMemory& memory)
      : p_(p), memory_(memory), before_(static_cast<ChunkSums*>(memory.before)), copies_(p.num_kv_heads), tiles_(p.tiles()),
        sizes_(memory.queues), begins_(memory.queues + p.num_ctas + 1) {}

  template <class Block>
  FL_HD void run(Block& block) {
    exclusive_sums(
        block, static_cast<ChunkSums*>(memory_.of_threads), p_.batch(), [&](std::int32_t request) { return sums_of(request); },
        [&](std::int32_t request, const ChunkSums& sums) { before_[request] = sums; });
    all_ = before_[p_.batch()].work;
    give_all(block);
    exclusive_sums(
        block, static_cast<Sum*>(memory_.of_threads), p_.num_ctas, [&](std::int32_t cta) { return Sum{sizes_[cta]}; },
        [&](std::int32_t cta, const Sum& sum) { begins_[cta] = sum.items; });
    block.each([&](std::int32_t t) {
      write_header(p_, all_, copies_, t, Block::threads);
      for (std::int32_t cta = t; cta < p_.num_ctas; cta += Block::threads) {
        if (sizes_[cta] == 0) p_.view.queues[cta] = {};
      }
      for (std::int32_t w = t; w < all_.items * copies_; w += Block::threads) write_work(w / copies_, w % copies_);
    });
  }

 private:
  struct Sum {
    std::int32_t items = 0;
    FL_HD constexpr Sum& operator+=(const Sum& b) {
      items += b.items;
      return *this;
    }
  };

  FL_HD std::int32_t kv_len(std::int32_t request) const {
    return static_cast<std::int32_t>(before_[request + 1].tokens - before_[request].tokens);
  }
  FL_HD std::int32_t pieces_of(Range keys) const { return chunk_pieces(keys, p_.chunk, p_.chunk_align); }
  FL_HD ChunkSums sums_of(std::int32_t request) const {
    const std::int32_t kv_len = p_.kv_len(request), pieces = pieces_of(p_.keys(kv_len));
    ChunkSums sums{kv_len, {.items = tiles_ * pieces}};
    if (pieces > 1) {
      sums.work.merges = tiles_;
      sums.work.partial_rows = pieces * p_.rows_of_head();
      sums.work.groups = tiles_ * groups_of(pieces);
    }
    return sums;
  }

  // sizes_, and for each work who has it: [items, copies].
  template <class Block>
  FL_HD void give_all(Block& block) {
    LeastLoaded ctas(memory_.loads, static_cast<std::uint32_t>(p_.num_ctas));
    block.each([&](std::int32_t t) {
      for (std::uint32_t c = t; c < ctas.width(); c += Block::threads) ctas.set_leaf(c, 0);
      for (std::int32_t cta = t; cta < p_.num_ctas; cta += Block::threads) sizes_[cta] = 0;
    });
    for (std::uint32_t level = ctas.width() / 2; level >= 1; level /= 2) {
      block.each([&](std::int32_t t) {
        for (std::uint32_t n = level + t; n < 2 * level; n += Block::threads) ctas.set_inner(n);
      });
    }
    block.each([&](std::int32_t t) {
      if (t != 0) return;
      Given* given = memory_.given;
      for (std::int32_t request = 0; request < p_.batch(); ++request) {
        const Range keys = p_.keys(kv_len(request));
        const std::int32_t pieces = pieces_of(keys);
        for (std::int32_t tile = 0; tile < tiles_; ++tile, given += pieces * copies_) {
          for (std::int32_t copy = 0; copy < copies_; ++copy) give_tile(ctas, keys, pieces, given + copy);
        }
      }
    });
  }
  // The pieces of one tile; given [pieces, copies].
  FL_HD void give_tile(LeastLoaded& ctas, Range keys, std::int32_t pieces, Given* given) const {
    for (std::int32_t piece = 0; piece < pieces; ++piece) {
      const std::int32_t size = chunk_piece(keys, p_.chunk, p_.chunk_align, piece).size();
      const auto cta = static_cast<std::int32_t>(ctas.give(static_cast<float>(p_.per_item + std::int64_t{size})));
      given[std::int64_t{piece} * copies_] = {cta, sizes_[cta]++};
    }
  }

  // An item of one copy, and its tile's merge if it is the first of it.
  FL_HD void write_work(std::int32_t index, std::int32_t copy) const {
    const std::int32_t request =
        last_before(0, p_.batch(), [&](std::int32_t r) { return before_[r].work.items <= index; });
    const WorkSums& sums = before_[request].work;
    const Range keys = p_.keys(kv_len(request));
    const std::int32_t pieces = pieces_of(keys), of_request = index - sums.items;
    const std::int32_t tile = of_request / pieces, piece = of_request - tile * pieces;
    const TilePlace at{request, copy, p_.rows(tile), kv_len(request), p_.queries, before_[request].tokens};
    const std::int32_t first_slot = sums.partial_rows + copy * all_.partial_rows + pieces * at.rows.begin;
    const std::int32_t merge = pieces > 1 ? sums.merges + tile + copy * all_.merges : -1;
    const PackedItem item = packed_item(p_.table, at, chunk_piece(keys, p_.chunk, p_.chunk_align, piece), merge,
                                        first_slot + piece * at.rows.size());
    const Given given = memory_.given[std::int64_t{index} * copies_ + copy];
    p_.view.items[begins_[given.cta] + given.place] = item;
    if (given.place == 0) {
      PackedQueue queue{};
      queue.begin = begins_[given.cta] + 1, queue.end = begins_[given.cta + 1];
      queue.first = item;
      p_.view.queues[given.cta] = queue;
    }
    if (piece > 0 || merge < 0) return;
    const std::int32_t group =
        gpu::first_group(p_, all_, copies_) + sums.groups + tile * groups_of(pieces) + copy * all_.groups;
    p_.view.merges[merge] = packed_merge(at, first_slot, pieces, group);
  }

  const DecodePlanParams& p_;
  const DecodePlanMemory& memory_;
  ChunkSums* before_;            // [batch + 1]
  std::int32_t copies_, tiles_;  // tiles_: of a request and head
  std::int32_t *sizes_, *begins_;  // [num_ctas], [num_ctas + 1] of the queues
  WorkSums all_;                 // of one copy
};

}  // namespace flashladder::gpu
