// What the threads of a warp group say to each other, and to the compiler.
#pragma once

#include <cstdint>

#include "gpu/prefill/hopper_shape.cuh"
#include "gpu/ptx/mbarrier.cuh"
#include "gpu/ptx/named_barrier.cuh"
#include "gpu/ptx/sleep.cuh"

namespace flashladder::gpu {

// The threads of a warp group meet, each group at a barrier of its own.
__device__ inline void sync_group(int group) { named_barrier_sync<128>(1 + group); }

// This warp has read what lies behind `empty`. Its lanes have waited for the same products, so that one speaks for all.
__device__ inline void release(Mbarrier& empty) {
  if (threadIdx.x % 32 == 0) empty.arrive();
}

// A warp group without rows lets an item's tiles pass: it waits for each and releases it, because the barriers count its
// warps. tile: of the rings, the next to come.
template <class S, class Rings>
__device__ inline void pass_tiles(Rings& rings, int count, std::uint32_t& tile) {
  for (const std::uint32_t end = tile + static_cast<std::uint32_t>(count); tile != end; ++tile) {
    const RingSlot<S::stages> at(tile);
    rings.k_full[at.stage].wait(at.parity);
    release(rings.k_empty[at.stage]);
    rings.v_full[at.stage].wait(at.parity);
    release(rings.v_empty[at.stage]);
  }
}

}  // namespace flashladder::gpu
