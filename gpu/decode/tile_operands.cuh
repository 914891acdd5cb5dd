// The operands of a tensor-core decode's tile: Q^T once an item from global memory, K and V^T from the warp's ring. Which lane
// holds what: core/fragment_map.hpp. Here the cache's elements are what tensor cores take.
#pragma once

#include <cstdint>

#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/decode/tile_ring.cuh"
#include "gpu/ptx/mma.cuh"

namespace flashladder::gpu {

template <class S>
using StoredTile = uint4[tile_tokens][S::chunks];

// Q^T as B fragments: a lane holds features lane % 4 * 2 + {0, 1} (+ 8) of head lane / 4.
template <class S, bool narrow = S::narrow>
struct QueryTiles {
  std::uint32_t at[S::steps][S::head_tiles][2];

  // place: of the item's rows (packed_work.cuh), each of which is a head here. Heads beyond them are 0.
  template <class Place>
  __device__ QueryTiles(const QueryRows& rows, const Place& place, const PackedItem& item) {
    const int lane = threadIdx.x % 32, count = item.rows.size();
#pragma unroll
    for (int n = 0; n < S::head_tiles; ++n) {
      const int head = n * heads_in_tile + lane / 4;
      const auto* from =
          static_cast<const typename S::Element*>(rows.q) + place.q_offset(rows, item, head) + lane % 4 * 2;
#pragma unroll
      for (int i = 0; i < S::steps * 2; ++i) {
        at[i / 2][n][i % 2] = head < count ? *reinterpret_cast<const std::uint32_t*>(from + i * 8) : 0;
      }
    }
  }
  __device__ void prepare(const QueryRows&, const KvPages&, std::int32_t) {}  // they are what they have to be
};

// K as A fragments of mma steps `step` and step + 1. Blocks of A: tokens 0-7, 8-15, then the same of the next 8 features.
template <class S>
  requires(!S::narrow)
__device__ inline void load_key_steps(std::uint32_t (&a)[2][4], const StoredTile<S>& k, int step) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    ldmatrix_x4(a[i], &k[lane % 16][S::stored_chunk(lane % 16, 2 * (step + i) + lane / 16)]);
  }
}

// V^T as A fragments, likewise. Blocks of A: features 0-7, 8-15 of tokens 0-7, then of tokens 8-15.
template <class S>
  requires(!S::narrow)
__device__ inline void load_value_steps(std::uint32_t (&a)[2][4], const StoredTile<S>& v, int step) {
  const int lane = threadIdx.x % 32, token = lane % 8 + lane / 16 * 8;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    ldmatrix_x4_trans(a[i], &v[token][S::stored_chunk(token, 2 * (step + i) + lane / 8 % 2)]);
  }
}

}  // namespace flashladder::gpu
