// A warp's share of a tensor-core decode: tiles of 16 tokens against 8 or 16 heads, tokens as M, heads as N ("swap AB").
//
//   S^T [16 tokens, 8 heads]  = K [16, head_dim] Q^T            K by ldmatrix from the warp's ring, Q^T in registers
//   O^T [head_dim, 8 heads]  += V^T [head_dim, 16] P^T          V by ldmatrix.trans, P^T by movmatrix from S^T
//
// How Q, K and V become operands: tile_operands.cuh, and narrow_operands.cuh for caches of 8-bit elements.
// In both accumulators a lane's two columns are the same two heads, so that the softmax's rescale needs no exchange. Which
// lane holds what: core/fragment_map.hpp. Used by D5 and D6, which differ in who computes which tile when.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/softmax_state.hpp"
#include "gpu/attention/thread_group.cuh"
#include "gpu/decode/narrow_operands.cuh"
#include "gpu/decode/tile_operands.cuh"
#include "gpu/decode/tile_ring.cuh"
#include "gpu/element.cuh"
#include "gpu/ptx/ex2.cuh"
#include "gpu/ptx/mma.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

// Where the warps of a block leave what they found for one tile of heads. In shared memory; rows are padded, so that the
// eight lanes that write one feature of different heads meet different banks.
template <class S>
struct TilePartials {
  float o[tile_warps][heads_in_tile][S::head_dim + 4];
  float m[tile_warps][heads_in_tile], d[tile_warps][heads_in_tile];

  // Head `head` over all warps; value becomes features feature .. + 3 of o, not normalised.
  __device__ SoftmaxState<float> take(int head, int feature, float4& value) const {
    SoftmaxState<float> state;
#pragma unroll
    for (int w = 0; w < tile_warps; ++w) state.m = fmaxf(state.m, m[w][head]);
    value = {};
#pragma unroll
    for (int w = 0; w < tile_warps; ++w) {
      const float weight = SoftmaxState<float>::weight(m[w][head], state.m);
      const float4 part = *reinterpret_cast<const float4*>(&o[w][head][feature]);
      state.d += d[w][head] * weight;
      value.x += part.x * weight, value.y += part.y * weight, value.z += part.z * weight, value.w += part.w * weight;
    }
    return state;
  }
};

// What a warp holds of its heads: softmax states of the lane's two columns in each head tile, and O^T.
template <class S>
struct HeadTiles {
  float m[S::head_tiles][2], d[S::head_tiles][2] = {};  // d: of this lane's tokens only, until the end
  float o[S::steps][S::head_tiles][4] = {};             // C fragments: 16 features x 8 heads each

  __device__ HeadTiles() {
    for (auto& tile_m : m) tile_m[0] = tile_m[1] = SoftmaxState<float>::nothing;
  }

  // One tile of 16 tokens that has arrived in the ring. seen: of this lane's two tokens, lane / 4 and lane / 4 + 8; or what
  // hides logits of its own accord (few_queries.cuh).
  // score(dot, n, j, half): the logit, in log2 units, of head n * 8 + lane % 4 * 2 + j and token lane / 4 + 8 * half.
  template <class Seen, class Score>
  __device__ void absorb(const StoredTile<S>& k, const StoredTile<S>& v, const QueryTiles<S>& q, const Seen& seen,
                         const Score& score) {
    std::uint32_t a[2][4];
    // Four sums, joined in f32: tensor cores cut off where f32 would round, so that one chain of steps drifts downwards.
    float sum[4][S::head_tiles][4] = {}, s[S::head_tiles][4];
#pragma unroll
    for (int i = 0; i < S::steps; ++i) {
      if (i % 2 == 0) load_key_steps<S>(a, k, i);
#pragma unroll
      for (int n = 0; n < S::head_tiles; ++n) mma_16x8x16<typename S::Element>(sum[i % 4][n], a[i % 2], q.at[i][n]);
    }
#pragma unroll
    for (int n = 0; n < S::head_tiles; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        s[n][c] = (sum[0][n][c] + sum[1][n][c]) + (sum[2][n][c] + sum[3][n][c]);
        if constexpr (S::narrow) s[n][c] *= q.factor[n][c % 2];
      }
    }
    logits(s, seen, score);
    std::uint32_t weights[S::head_tiles][2];
    softmax(s, weights);
#pragma unroll
    for (int i = 0; i < S::steps; ++i) {
      if (i % 2 == 0) load_value_steps<S>(a, v, i);
#pragma unroll
      for (int n = 0; n < S::head_tiles; ++n) mma_16x8x16<typename S::Element>(o[i][n], a[i % 2], weights[n]);
    }
  }

  // The heads of tile n, from all lanes of this warp, one of the group's.
  __device__ void put(int n, int warp, TilePartials<S>& partials) {
    const int lane = threadIdx.x % 32, row = lane / 4, col = lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float sum = d[n][j];
#pragma unroll
      for (int offset = 4; offset < 32; offset *= 2) sum += __shfl_xor_sync(all_lanes, sum, offset);
      if (row == 0) partials.m[warp][col + j] = m[n][j], partials.d[warp][col + j] = sum;
#pragma unroll
      for (int i = 0; i < S::steps; ++i) {
        float* const to = &partials.o[warp][col + j][i * 16];
        if constexpr (S::narrow) {  // a lane's two features are neighbours
          reinterpret_cast<float2*>(to)[row] = {o[i][n][j], o[i][n][j + 2]};
        } else {
          to[row] = o[i][n][j], to[row + 8] = o[i][n][j + 2];
        }
      }
    }
  }

 private:
  // 2^(from - to), where "nothing" weighs nothing, also against itself (SoftmaxState::weight, in one instruction).
  static __device__ float weight(float from, float to) {
    return exp2_approx(from - (to == SoftmaxState<float>::nothing ? 0 : to));
  }

  // Dots become logits, and nothing where a key is not seen.
  template <class Seen, class Score>
  static __device__ void logits(float (&s)[S::head_tiles][4], const Seen& seen, const Score& score) {
    constexpr bool by_token = std::is_array_v<Seen>;
#pragma unroll
    for (int n = 0; n < S::head_tiles; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        if constexpr (by_token) s[n][c] = seen[c / 2] ? score(s[n][c], n, c % 2, c / 2) : SoftmaxState<float>::nothing;
        else s[n][c] = score(s[n][c], n, c % 2, c / 2);
      }
    }
    if constexpr (!by_token) seen.hide(s);
  }

  // s: C fragments of S^T, 16 tokens x 8 heads. They become P^T as B fragments; o is rescaled to the new maximum, if that is
  // another one in some column of the warp.
  __device__ void softmax(float (&s)[S::head_tiles][4], std::uint32_t (&p)[S::head_tiles][2]) {
    float rescale[S::head_tiles][2];
    bool moved = false;
#pragma unroll
    for (int n = 0; n < S::head_tiles; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float& upper = s[n][j];
        float& lower = s[n][j + 2];
        float most = fmaxf(m[n][j], fmaxf(upper, lower));
#pragma unroll
        for (int offset = 4; offset < 32; offset *= 2) most = fmaxf(most, __shfl_xor_sync(all_lanes, most, offset));
        rescale[n][j] = weight(m[n][j], most);
        moved = moved || rescale[n][j] != 1;
        m[n][j] = most;
        upper = weight(upper, most);
        lower = weight(lower, most);
        d[n][j] = d[n][j] * rescale[n][j] + upper + lower;
      }
      p[n][0] = movmatrix_trans(pack<typename S::Element>(s[n][0], s[n][1]));
      p[n][1] = movmatrix_trans(pack<typename S::Element>(s[n][2], s[n][3]));
    }
    if (!__any_sync(all_lanes, moved)) return;
#pragma unroll
    for (int n = 0; n < S::head_tiles; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float by = rescale[n][j];
#pragma unroll
        for (int i = 0; i < S::steps; ++i) o[i][n][j] *= by, o[i][n][j + 2] *= by;
      }
    }
  }
};

// All warps' heads become rows: write(row of the item, feature, state, float4 of o, not normalised), spread over the
// threads. All threads of the group call it; o of the warps is used up.
template <class Group = ThreadGroup<tile_warps * 32>, class S, class Write>
__device__ void write_rows(HeadTiles<S>& heads, TilePartials<S>& partials, int rows, const Write& write) {
  constexpr int vectors = S::head_dim / 4;
#pragma unroll
  for (int n = 0; n < S::head_tiles; ++n) {
    Group::sync();  // no thread reads what lay here before any more: the last tile's partials, or a ring
    heads.put(n, Group::warp(), partials);
    Group::sync();  // every warp's partial is there
    for (int at = Group::rank(); at < min(rows - n * heads_in_tile, heads_in_tile) * vectors; at += Group::threads) {
      float4 value;
      const SoftmaxState<float> state = partials.take(at / vectors, at % vectors * 4, value);
      write(n * heads_in_tile + at / vectors, at % vectors * 4, state, value);
    }
  }
}

}  // namespace flashladder::gpu
