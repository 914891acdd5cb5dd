// The ring of a warp in shared memory: tiles of 16 tokens, which arrive by cp.async while others are computed. They lie there
// as they are stored in the cache: 16-bit elements, or 8-bit ones, which become 16-bit on their way to the tensor cores.
//
// Chunk c (16 bytes) of token t lies where core/swizzle.hpp puts it within each 128 bytes of a row, so that ldmatrix, which
// reads one column of chunks of eight tokens at once, meets eight different bank groups.
#pragma once

#include <cstdint>

#include "core/swizzle.hpp"
#include "gpu/attention/token_slots.cuh"
#include "gpu/ptx/cp_async.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

inline constexpr int tile_tokens = 16, heads_in_tile = 8, tile_warps = 4;

// Element: of the tensor cores' operands. Stored: of K and V, in the cache and in the ring.
template <class Element_, int head_dim_, int head_tiles_, int stages_, class Stored_ = Element_>
struct TileShape {
  using Element = Element_;
  using Stored = Stored_;
  static constexpr bool narrow = sizeof(Stored) < sizeof(Element);
  static constexpr int head_dim = head_dim_, head_tiles = head_tiles_;
  static constexpr int in_chunk = 16 / sizeof(Stored);   // elements of 16 bytes
  static constexpr int chunks = head_dim / in_chunk;     // of a token
  static constexpr int steps = head_dim / 16;            // mma steps along head_dim
  static constexpr int stages = stages_;                 // of a warp's ring, one tile each
  static_assert(chunks >= 4 && chunks <= 32, "a token's chunks must fill half to four bank rows and one copy of a warp");

  // Where chunk c of token t of a tile is stored.
  __device__ static constexpr int stored_chunk(int token, int chunk) {
    return swizzled_chunk(chunks == 4 ? Swizzle::bytes_64 : Swizzle::bytes_128, token, chunk);
  }
};

template <class S>
struct TileRing {
  uint4 k[S::stages][tile_tokens][S::chunks], v[S::stages][tile_tokens][S::chunks];

  // Starts the copy of 16 tokens, which the lanes first_lane .. + 15 have located. Unseen ones are not read and become
  // zeros: their values are multiplied by weights of zero, and 0 * NaN would be NaN.
  __device__ void copy(int stage, const typename S::Stored* keys, const typename S::Stored* values,
                       const TokenSlots& slots, int first_lane) {
    constexpr int tokens = 32 / S::chunks;  // of one copy: a lane brings 16 bytes
    const int lane = threadIdx.x % 32, chunk = lane % S::chunks;
#pragma unroll
    for (int u = 0; u < tile_tokens; u += tokens) {
      const int token = u + lane / S::chunks, from = first_lane + token;  // the lane that knows
      const std::int64_t k_at = __shfl_sync(all_lanes, slots.k, from), v_at = __shfl_sync(all_lanes, slots.v, from);
      const bool seen = __shfl_sync(all_lanes, slots.seen, from);
      cp_async_16(&k[stage][token][S::stored_chunk(token, chunk)], keys + k_at + chunk * S::in_chunk, seen);
      cp_async_16(&v[stage][token][S::stored_chunk(token, chunk)], values + v_at + chunk * S::in_chunk, seen);
    }
  }
};

}  // namespace flashladder::gpu
