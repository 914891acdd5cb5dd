// What the one warp that copies asks the engine for behind the queries: a tile of keys, then one of values.
#pragma once

#include <cstdint>

#include "gpu/prefill/box_copies.cuh"
#include "gpu/prefill/lower_hopper.cuh"

namespace flashladder::gpu {

// Tile n of an item's keys, then of its values, to the place of tile number `tile` in the rings: each as soon as the
// consumers have released what lay there. The page ids are asked for before that, and come meanwhile.
template <class S, class Shared>
__device__ inline void copy_keys_and_values(Shared& shared, const KvBoxes& kv, const PackedItem& item,
                                            const KeyTiles<S::keys>& tiles, int n, std::uint32_t tile) {
  RingBarriers<S>& rings = shared.rings;
  const int lane = threadIdx.x % 32;
  const TileBoxes boxes = locate_boxes<S::keys>(kv, item.first_page, tiles.first_key(n), item.keys.end);
  const RingSlot<S::stages> at(tile);
  rings.k_empty[at.stage].wait(at.parity ^ 1);  // the tile before it in this place has been multiplied
  if (lane == 0) rings.k_full[at.stage].arrive_expecting(S::k_bytes);
  __syncwarp();  // announced before asked for
  copy_tile<S::head_dim_qk>(kv.k, kv.k_end, boxes, item.kv_head * kv.k_head, kv.box_rows, shared.k[at.stage],
                            rings.k_full[at.stage]);
  rings.v_empty[at.stage].wait(at.parity ^ 1);  // the same of values
  if (lane == 0) rings.v_full[at.stage].arrive_expecting(S::v_bytes);
  __syncwarp();  // announced before asked for
  copy_tile<S::head_dim_vo>(kv.v, kv.v_end, boxes, item.kv_head * kv.v_head, kv.box_rows, shared.v[at.stage],
                            rings.v_full[at.stage]);
}

}  // namespace flashladder::gpu
