// The warps that copy: one claims work and brings queries and keys, another brings values. Two, because asking for the boxes
// of small pages takes instructions, and a scheduler that also serves consumers should have as few of them as it can.
#pragma once

#include <cstdint>

#include "gpu/attention/packed_work.cuh"
#include "gpu/prefill/box_copies.cuh"
#include "gpu/prefill/hopper_shape.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

// One warp: claims work, and keeps queries and keys coming, up to what the ring holds ahead of the consumers.
template <class S>
__device__ void produce_keys(HopperShared<S>& shared, const QueryBoxes& queries, const KvBoxes& kv, const QueryRows& rows,
                             const PackedParams& plan) {
  HopperBarriers<S>& barriers = shared.barriers;
  const int lane = threadIdx.x % 32;
  const PackedHeader& header = *plan.view.header;
  const auto claim_by_one = [&] { return lane == 0 ? claim(plan) : 0; };
  const auto start = [&](std::int32_t work) {
    if (work < header.num_work) shared.coming_copy = start_work(plan, header, work, shared.coming).copy;  // all lanes alike
    cp_async_commit();
  };
  std::uint32_t filled = 0;  // tiles of keys so far
  // Two works ahead: while one's keys are copied, the record of the next is under way, and the claim of the one after.
  std::int32_t work = __shfl_sync(all_lanes, claim_by_one(), 0), next = work;
  start(work);
  for (std::uint32_t turn = 0;; ++turn, work = next) {
    PackedItem& item = shared.items[turn % 2];
    const bool none = work >= header.num_work;
    const std::int32_t claimed = none ? 0 : claim_by_one();
    cp_async_wait<0>();
    __syncwarp();  // the record is there, what other lanes copied too
    barriers.q_empty.wait(turn % 2 ^ 1);  // the queries before are taken, and nobody reads the record before them any more
    if (none) {
      if (lane == 0) item.rows = {}, barriers.q_full.arrive();
      return;
    }
    settle_work(plan, rows.group_size, shared.coming_copy, shared.coming, item);
    copy_queries<S>(queries, item, shared.q, barriers.q_full);
    const KeyTiles<S::keys> tiles(item.keys, kv.first_key_mask);
    const auto locate = [&](int n) { return locate_boxes<S::keys>(kv, item.first_page, tiles.first_key(n), item.keys.end); };
    TileBoxes now = locate(tiles.count - 1);
    for (int n = tiles.count - 1; n >= 0; --n) {
      const TileBoxes upcoming = n > 0 ? locate(n - 1) : TileBoxes{};  // page ids come while the ring is full
      const RingSlot<S::stages> at(filled++);
      barriers.k_empty[at.stage].wait(at.parity ^ 1);
      if (lane == 0) barriers.k_full[at.stage].arrive_expecting(S::k_bytes);
      __syncwarp();
      copy_tile<S::head_dim_qk>(kv.k, kv.k_end, now, item.kv_head * kv.k_head, kv.box_rows, shared.k[at.stage],
                                barriers.k_full[at.stage]);
      now = upcoming;
      if (n == tiles.count - 1) {  // what consumers wait for is on its way
        next = __shfl_sync(all_lanes, claimed, 0);
        start(next);
      }
    }
  }
}

// Another: the values of the same works. It learns of them as the consumers do.
template <class S>
__device__ void produce_values(HopperShared<S>& shared, const KvBoxes& kv) {
  HopperBarriers<S>& barriers = shared.barriers;
  const int lane = threadIdx.x % 32;
  std::uint32_t filled = 0;
  for (std::uint32_t turn = 0;; ++turn) {
    barriers.q_full.wait(turn % 2);
    const PackedItem& item = shared.items[turn % 2];
    if (item.rows.empty()) return;
    const KeyTiles<S::keys> tiles(item.keys, kv.first_key_mask);
    const std::int32_t first_page = item.first_page, end = item.keys.end, head_row = item.kv_head * kv.v_head;
    barriers.q_empty.arrive();  // this lane has read the record: it need not stay for it
    const auto locate = [&](int n) { return locate_boxes<S::keys>(kv, first_page, tiles.first_key(n), end); };
    TileBoxes now = locate(tiles.count - 1);
    for (int n = tiles.count - 1; n >= 0; --n) {
      const TileBoxes upcoming = n > 0 ? locate(n - 1) : TileBoxes{};
      const RingSlot<S::stages> at(filled++);
      barriers.v_empty[at.stage].wait(at.parity ^ 1);
      if (lane == 0) barriers.v_full[at.stage].arrive_expecting(S::v_bytes);
      __syncwarp();
      copy_tile<S::head_dim_vo>(kv.v, kv.v_end, now, head_row, kv.box_rows, shared.v[at.stage], barriers.v_full[at.stage]);
      now = upcoming;
    }
  }
}

}  // namespace flashladder::gpu
