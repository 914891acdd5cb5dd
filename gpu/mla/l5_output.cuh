// Where half of the rows of a tile go: to o, or to the partials of a plan, 16 bytes at a time. Four neighbouring lanes have
// every fourth pair of a row's features; they exchange them until each has neighbours.
#pragma once

#include <cstdint>

#include "gpu/attention/write_row.cuh"
#include "gpu/element.cuh"
#include "gpu/mla/l5_producer.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu::l5 {

inline constexpr int half_values = half_features / 2;  // of a thread: of two rows, a quarter of each

// Of a thread of a warp group, i = 0 and 1: the row that accumulators with bit 1 of their number equal to i belong to.
__device__ inline std::int32_t row_of_thread(int i) {
  const auto thread = static_cast<unsigned>(thread_again());
  return static_cast<std::int32_t>(thread % group_threads / 32 * 16 + thread % 32 / 4 + 8 * static_cast<unsigned>(i));
}

// Row i, of f32: pairs of eights of features, of which every lane gets four features of one eight.
__device__ inline void store_floats(const float (&o)[half_values], int i, float scale, float* to, bool exists) {
  const int lane = threadIdx.x % 32;
  const bool odd = lane % 2 == 1;
#pragma unroll
  for (int j = 0; j < half_features / 8; j += 2) {
    const float2 low{o[4 * j + 2 * i] * scale, o[4 * j + 2 * i + 1] * scale};
    const float2 high{o[4 * j + 4 + 2 * i] * scale, o[4 * j + 5 + 2 * i] * scale};
    const float2 send = odd ? low : high;
    const float2 got{__shfl_xor_sync(all_lanes, send.x, 1), __shfl_xor_sync(all_lanes, send.y, 1)};
    const float4 value = odd ? float4{got.x, got.y, high.x, high.y} : float4{low.x, low.y, got.x, got.y};
    if (exists) *reinterpret_cast<float4*>(to + 8 * (j + lane % 2) + lane % 4 / 2 * 4) = value;
  }
}

// Row i, of 16-bit elements: four eights of features, of which every lane gets one.
template <class Out>
__device__ void store_halves(const float (&o)[half_values], int i, float scale, Out* to, bool exists) {
  const int lane = threadIdx.x % 32;
  const bool odd = lane % 2 == 1, upper = lane % 4 >= 2;
  const auto swap = [](std::uint32_t send, int distance) { return __shfl_xor_sync(all_lanes, send, distance); };
#pragma unroll
  for (int j = 0; j < half_features / 8; j += 4) {
    std::uint32_t x[4], y[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      x[k] = pack<Out>(o[4 * (j + k) + 2 * i] * scale, o[4 * (j + k) + 2 * i + 1] * scale);
    }
#pragma unroll
    for (int k = 0; k < 4; k += 2) {  // between neighbours: each has two eights' pairs of both
      const std::uint32_t got = swap(odd ? x[k] : x[k + 1], 1);
      if (odd) x[k] = got;
      else x[k + 1] = got;
    }
#pragma unroll
    for (int k = 0; k < 2; ++k) {  // between pairs of neighbours: each has all of one eight
      const std::uint32_t got = swap(upper ? x[k] : x[k + 2], 2);
      y[k] = upper ? got : x[k], y[k + 2] = upper ? x[k + 2] : got;
    }
    if (exists) *reinterpret_cast<uint4*>(to + 8 * (j + lane % 4)) = uint4{y[0], y[1], y[2], y[3]};
  }
}

// half: 0 or 1. scale: of the thread's two rows.
__device__ inline void store_half(const float (&o)[half_values], float2 scale, const Queries& queries,
                                  const PackedParams& plan, const PackedItem& item, int half) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::int32_t row = row_of_thread(i);
    const bool exists = row < item.rows.size();
    const float by = i == 0 ? scale.x : scale.y;
    if (item.merge >= 0) {
      store_floats(o, i, by, plan.partial_o + (std::int64_t{item.slot} + row) * mla_ckv + half * half_features, exists);
      continue;
    }
    const std::int64_t offset = queries.rows.o_offset(queries.place(item, exists ? row : 0)) + half * half_features;
    if (queries.rows.o_dtype == DType::f32) {
      store_floats(o, i, by, static_cast<float*>(queries.rows.o) + offset, exists);
    } else if (queries.rows.o_dtype == DType::f16) {
      store_halves(o, i, by, static_cast<Half*>(queries.rows.o) + offset, exists);
    } else {
      store_halves(o, i, by, static_cast<BFloat16*>(queries.rows.o) + offset, exists);
    }
  }
}

// The lse of the thread's two rows, by one of the four threads that share them.
__device__ inline void store_lse(const SoftmaxState<float> (&states)[2], const Queries& queries, const PackedParams& plan,
                                 const PackedItem& item) {
  if (threadIdx.x % 4 != 0) return;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::int32_t row = row_of_thread(i);
    if (row >= item.rows.size()) continue;
    const float lse_log2 = states[i].lse_log2();
    if (item.merge >= 0) {  // partials stay base 2
      plan.partial_lse_log2[std::int64_t{item.slot} + row] = lse_log2;
    } else if (queries.rows.lse != nullptr) {
      queries.rows.lse[queries.rows.lse_offset(queries.place(item, row))] = lse_log2 * queries.rows.lse_factor;
    }
  }
}

}  // namespace flashladder::gpu::l5
