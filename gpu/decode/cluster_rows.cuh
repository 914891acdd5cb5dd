// How the CTAs of a cluster make one row of what each of them found: by reading each other's shared memory.
//
// A row belongs to one warp of one CTA, the rows of a tile to as many SMs as there are. Its lanes have four features each. A
// CTA leaves its rows in one of two places in turn; the cluster's barrier behind the writes is also the one behind the reads
// of the place before, so that an item takes one barrier.
#pragma once

#include <cstdint>

#include "core/softmax_state.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/decode/decode.hpp"
#include "gpu/decode/tile_ring.cuh"
#include "gpu/ptx/cluster.cuh"
#include "gpu/warp.cuh"
#include "gpu/warp_reduce.cuh"

namespace flashladder::gpu {

// The most that Hopper has room for: 16 SMs of a GPC, or 8 with two CTAs each. (More than 8 must be allowed by the launch.)
inline constexpr int cluster_ctas = d7::ctas;

// The warps among which the tiles of an item are dealt: those of all CTAs of a cluster.
struct ClusterWarps {
  static constexpr std::uint32_t count = cluster_ctas * tile_warps;
  static __device__ std::uint32_t rank() { return cluster_rank() * tile_warps + threadIdx.x / 32; }
  // A warp's rows of a tile begin with this one, and are `count` apart.
  static __device__ int first_row() { return static_cast<int>(cluster_rank() + cluster_ctas * (threadIdx.x / 32)); }
};

// Which features of a row a lane has: `pieces` times four, side by side over the lanes. With head_dim 64 half of the lanes
// have those of the others once more.
template <int head_dim>
struct RowLanes {
  static constexpr int lanes = head_dim / 4 < 32 ? head_dim / 4 : 32, pieces = head_dim / 4 / lanes;

  static __device__ int feature(int piece) { return (static_cast<int>(threadIdx.x) % lanes + 32 * piece) * 4; }
  static __device__ bool writes() { return static_cast<int>(threadIdx.x) % 32 < lanes; }
};

// What a warp has of a row: the state of its softmax, and o, not normalised.
template <int head_dim>
struct WarpRow {
  SoftmaxState<float> state;
  float4 o[RowLanes<head_dim>::pieces] = {};

  __device__ void add(const float4 (&part)[RowLanes<head_dim>::pieces], float weight) {
#pragma unroll
    for (int x = 0; x < RowLanes<head_dim>::pieces; ++x) {
      o[x] = {__fmaf_rn(part[x].x, weight, o[x].x), __fmaf_rn(part[x].y, weight, o[x].y),
              __fmaf_rn(part[x].z, weight, o[x].z), __fmaf_rn(part[x].w, weight, o[x].w)};
    }
  }
};

// What a CTA found for an item. In shared memory.
template <class S>
struct CtaRows {
  static constexpr int rows = S::head_tiles * heads_in_tile;
  float o[rows][S::head_dim];  // not normalised
  float m[rows], d[rows];

  __device__ void put(int r, int feature, SoftmaxState<float> state, float4 value) {
    *reinterpret_cast<float4*>(&o[r][feature]) = value;
    if (feature == 0) m[r] = state.m, d[r] = state.d;
  }

  // Row r of all CTAs of the cluster, by a warp, in the order of their ranks.
  __device__ WarpRow<S::head_dim> join(int r) const {
    using Lanes = RowLanes<S::head_dim>;
    constexpr int batch = cluster_ctas / Lanes::pieces;  // of which registers hold the parts at once
    const int lane = threadIdx.x % 32;
    const float other_m = lane < cluster_ctas ? load_in_cluster(in_cta(&m[r], lane)) : SoftmaxState<float>::nothing;
    const float other_d = lane < cluster_ctas ? load_in_cluster(in_cta(&d[r], lane)) : 0;
    WarpRow<S::head_dim> row;
    float weight = 0;
#pragma unroll
    for (int first = 0; first < cluster_ctas; first += batch) {
      float4 part[batch][Lanes::pieces];
#pragma unroll
      for (int i = 0; i < batch; ++i) {
#pragma unroll
        for (int x = 0; x < Lanes::pieces; ++x) {
          part[i][x] = load4_in_cluster(in_cta(&o[r][Lanes::feature(x)], first + i));
        }
      }
      if (first == 0) {
        row.state.m = warp_max(other_m);
        weight = SoftmaxState<float>::weight(other_m, row.state.m);
        row.state.d = warp_sum(other_d * weight);
      }
#pragma unroll
      for (int i = 0; i < batch; ++i) row.add(part[i], __shfl_sync(all_lanes, weight, first + i));
    }
    return row;
  }
};

// Row r of a tile that is cut among clusters, from its partials in global memory, in chunk order, by a warp. All lse_log2
// are read first, with the first partials under way beside them: each then has its weight, and nothing is rescaled.
template <int head_dim>
__device__ WarpRow<head_dim> merge_row(const PackedParams& plan, const PackedMerge& m, int r) {
  using Lanes = RowLanes<head_dim>;
  constexpr int batch = 8 / Lanes::pieces;
  const int lane = threadIdx.x % 32;
  const auto slot = [&](int p) { return m.first_slot + std::int64_t{p} * m.rows.size() + r; };
  // Around L1, which does not know what other SMs wrote.
  const auto lse_log2_of = [&](int p) {
    return p < m.num_partials ? __ldcg(plan.partial_lse_log2 + slot(p)) : SoftmaxState<float>::nothing;
  };
  const float first_lse_log2 = lse_log2_of(lane);
  WarpRow<head_dim> row;
  float weight = 0;
  for (int first = 0; first < m.num_partials; first += batch) {
    float4 part[batch][Lanes::pieces];
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      const std::int64_t at = slot(min(first + i, m.num_partials - 1)) * head_dim;
#pragma unroll
      for (int x = 0; x < Lanes::pieces; ++x) {
        part[i][x] = __ldcg(reinterpret_cast<const float4*>(plan.partial_o + at + Lanes::feature(x)));
      }
    }
    if (first == 0) {
      float most = first_lse_log2;
      for (int p = lane + 32; p < m.num_partials; p += 32) most = fmaxf(most, lse_log2_of(p));
      row.state.m = warp_max(most);
    }
    if (first % 32 == 0) {  // lane l weighs partial first + l
      weight = SoftmaxState<float>::weight(first == 0 ? first_lse_log2 : lse_log2_of(first + lane), row.state.m);
      row.state.d += warp_sum(weight);
    }
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      if (first + i < m.num_partials) row.add(part[i], __shfl_sync(all_lanes, weight, (first + i) % 32));
    }
  }
  return row;
}

}  // namespace flashladder::gpu
