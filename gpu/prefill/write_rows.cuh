// A warp's finished rows to where they belong, by way of shared memory: in registers a lane has two neighbours of a row, but
// it stores eight, 16 bytes and more.
#pragma once

#include <cstdint>

#include "gpu/prefill/item_rows.cuh"
#include "gpu/prefill/row_logits.cuh"
#include "gpu/prefill/swizzled_row.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

// mine: m, d and o of the warp's rows; d of the lane's keys alone. They go where the warp's rows of q were, which no other
// warp reads, as f32, half of the features at a time.
template <class S, class Rows, int tile_rows, int chunks>
__device__ void write_rows(uint4 (&q)[tile_rows][chunks], const Rows& mine, const typename S::Variant& variant,
                           const RowLogits<S>& logits, const QueryRows& rows, const PackedParams& plan,
                           const PackedItem& item) {
  static_assert(S::vo / 8 <= chunks, "half a row of o, as f32, is no longer than a row of q");
  const PackedRows place{plan.pack};
  const int thread = thread_again(), lane = thread % 32;
  float scale[2 * S::row_tiles] = {};
#pragma unroll
  for (int i = 0; i < 2 * S::row_tiles; ++i) {
    float d = mine.d[i / 2][i % 2];
    d += __shfl_xor_sync(all_lanes, d, 1);
    d += __shfl_xor_sync(all_lanes, d, 2);
    if (lane_row<S>(thread, i) >= item.rows.size()) continue;
    scale[i] = finish_item_row(rows, plan, item, lane_place<S>(item, place, i), lane_row<S>(thread, i), lane % 4,
                               {mine.m[i / 2][i % 2], d}, variant.row_constant(logits.query[i], logits.head[i]));
  }
  constexpr int vectors = S::vo / 16;  // eight features each, of half a row
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    __syncwarp();  // the warp no longer needs what lies there: q, or the first half
#pragma unroll
    for (int i = 0; i < 2 * S::row_tiles; ++i) {
      const int row = lane_row<S>(thread, i);
#pragma unroll
      for (int n = 0; n < vectors; ++n) {
        const float* from = &mine.o[i / 2][half * vectors + n][i % 2 * 2];
        auto* to = reinterpret_cast<float2*>(&q[row][swizzled(row, 2 * n + lane % 4 / 2)]);
        to[lane % 2] = {from[0] * scale[i], from[1] * scale[i]};
      }
    }
    __syncwarp();  // all lanes' features are there
    for (int at = lane; at < S::warp_rows * vectors; at += 32) {
      const int row = thread / 32 * S::warp_rows + at / vectors, feature = half * S::vo / 2 + at % vectors * 8;
      if (row >= item.rows.size()) break;
      const auto chunk = [&](int c) { return *reinterpret_cast<const float4*>(&q[row][swizzled(row, c)]); };
      const float4 low = chunk(at % vectors * 2), high = chunk(at % vectors * 2 + 1);
      const Float8 value{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      store_item_row(rows, plan, item, place(item, row), row, S::vo, feature, value);
    }
  }
}

}  // namespace flashladder::gpu
