// A group of lanes that share one token: head_dim / 8 lanes hold 8 neighbouring features each, one 16-byte load of K or V.
//
//   head_dim 128: 16 lanes a token, two tokens at once in a warp        lane l: token l / 16, features 8 (l % 16) .. + 7
//
// Each group carries its own softmax state for each of `rows` packed query rows, over the tokens that it has seen; at the
// end the groups of a warp merge by shuffles, the warps of a block through shared memory, always in the same order.
#pragma once

#include <cstdint>

#include "core/softmax_state.hpp"
#include "gpu/element.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

template <class Element_, int head_dim_, int rows_>
struct LaneGroup {
  using Element = Element_;
  static constexpr int head_dim = head_dim_, rows = rows_;
  static constexpr int lanes = head_dim / 8;      // of a token
  static constexpr int tokens = 32 / lanes;       // of a warp at once
  static_assert(lanes >= 2 && lanes <= 32, "a token's features must fill lanes of one warp");

  float q[rows][8];  // this lane's features of each row's query
  SoftmaxState<float> state[rows];
  float o[rows][8] = {};  // not normalised: sum of 2^(logit - state.m) v

  static __device__ std::int32_t lane() { return threadIdx.x % lanes; }          // within its group
  static __device__ std::int32_t token() { return threadIdx.x % 32 / lanes; }    // the group within the warp

  // first: q of packed row 0, this lane's first feature; rows lie head_stride elements apart. Rows from `wanted` on are 0:
  // computed with, never written.
  __device__ void load_query(const Element* first, std::int32_t head_stride, std::int32_t wanted) {
    for (int r = 0; r < rows; ++r) {
      const Float8 features =
          r < wanted ? to_floats<Element>(*reinterpret_cast<const uint4*>(first + std::int64_t{r} * head_stride)) : Float8{};
#pragma unroll
      for (int i = 0; i < 8; ++i) q[r][i] = features.at[i];
    }
  }

  // n tokens for each group: k[u], v[u] are this lane's 8 features. A token beyond the end comes as seen[u] = false with
  // zeros.
  template <int n, class Score>
  __device__ void absorb(const uint4 (&k)[n], const uint4 (&v)[n], const bool (&seen)[n], const Score& score) {
    float logit[n][rows];  // then the weight
#pragma unroll
    for (int u = 0; u < n; ++u) {
      const Float8 key = to_floats<Element>(k[u]);
#pragma unroll
      for (int r = 0; r < rows; ++r) {
        float dot = 0;
#pragma unroll
        for (int i = 0; i < 8; ++i) dot += q[r][i] * key.at[i];
#pragma unroll
        for (int offset = lanes / 2; offset > 0; offset /= 2) dot += __shfl_xor_sync(all_lanes, dot, offset);
        logit[u][r] = seen[u] ? score(dot) : SoftmaxState<float>::nothing;
      }
    }
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      SoftmaxState<float> now;
#pragma unroll
      for (int u = 0; u < n; ++u) now.m = fmaxf(now.m, logit[u][r]);
      now.m = fmaxf(now.m, state[r].m);
#pragma unroll
      for (int u = 0; u < n; ++u) now.d += logit[u][r] = SoftmaxState<float>::weight(logit[u][r], now.m);
      const float rescale = SoftmaxState<float>::weight(state[r].m, now.m);
      state[r] = {now.m, state[r].d * rescale + now.d};
#pragma unroll
      for (int i = 0; i < 8; ++i) o[r][i] *= rescale;
    }
#pragma unroll
    for (int u = 0; u < n; ++u) {
      const Float8 value = to_floats<Element>(v[u]);
#pragma unroll
      for (int r = 0; r < rows; ++r) {
#pragma unroll
        for (int i = 0; i < 8; ++i) o[r][i] += logit[u][r] * value.at[i];
      }
    }
  }

  // The groups of a warp become one: afterwards each of them holds the state of all.
  __device__ void merge_in_warp() {
#pragma unroll
    for (int offset = lanes; offset < 32; offset *= 2) {
#pragma unroll
      for (int r = 0; r < rows; ++r) {
        const SoftmaxState<float> other{__shfl_xor_sync(all_lanes, state[r].m, offset),
                                        __shfl_xor_sync(all_lanes, state[r].d, offset)};
        const MergeWeights<float> weights = merge(state[r], other);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          o[r][i] = o[r][i] * weights.a + __shfl_xor_sync(all_lanes, o[r][i], offset) * weights.b;
        }
      }
    }
  }
};

// The blocks of D2, D3 and D4.
inline constexpr int lane_warps = 4;
// Tokens that each lane group loads before it computes (D2, D3). With 8 rows of q and o more would not fit the registers.
template <class Group>
constexpr int tokens_in_flight = Group::rows <= 4 ? 4 : 2;
template <class Group>
constexpr int lane_blocks_per_sm = Group::rows == 1 ? 5 : Group::rows <= 4 ? 3 : 2;  // by registers: 8 * rows for q, for o

// Where the warps of a block leave what they found. In shared memory.
template <int head_dim, int rows, int warps>
struct WarpPartials {
  float m[warps][rows], d[warps][rows];
  float o[warps][rows][head_dim];

  template <class Group>
  __device__ void put(Group& group) {
    group.merge_in_warp();
    const std::int32_t warp = threadIdx.x / 32;
    if (Group::token() != 0) return;
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      if (Group::lane() == 0) m[warp][r] = group.state[r].m, d[warp][r] = group.state[r].d;
#pragma unroll
      for (int i = 0; i < 8; ++i) o[warp][r][Group::lane() * 8 + i] = group.o[r][i];
    }
  }

  // Row r over all warps, in warp order; value becomes feature i of o, not normalised.
  __device__ SoftmaxState<float> take(int r, int i, float& value) const {
    SoftmaxState<float> state;
    value = 0;
    for (int w = 0; w < warps; ++w) {
      const MergeWeights<float> weights = merge(state, SoftmaxState<float>{m[w][r], d[w][r]});
      value = value * weights.a + o[w][r][i] * weights.b;
    }
    return state;
  }

  // Every row: write(row, feature, state, value of o, not normalised), spread over the block's threads.
  template <class Write>
  __device__ void write_rows(int count, const Write& write) const {
    for (int at = threadIdx.x; at < count * head_dim; at += warps * 32) {
      const int r = at / head_dim, i = at % head_dim;
      float value;
      const SoftmaxState<float> state = take(r, i, value);
      write(r, i, state, value);
    }
  }
};

}  // namespace flashladder::gpu
