// Where the rows of a warp group go when they are finished: to o, to the partials of a plan, by the threads that computed
// them.
#pragma once

#include <cstdint>

#include "core/swizzle.hpp"
#include "gpu/attention/packed_work.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/prefill/hopper_rows.cuh"
#include "gpu/prefill/hopper_shape.cuh"
#include "gpu/ptx/stmatrix.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

// Rows of 16-bit elements, 16 of a warp: through shared memory, so that 16 bytes are stored at a time and rows lie together
// in memory. o: not scaled yet, scale: of this thread's two rows. stage [16][head_dim_vo] of this warp. offset: where row
// lane % 16 of the warp begins in o; rows [0, there) exist.
template <class S, class Out>
__device__ inline void store_rows(const float (&o)[S::head_dim_vo / 2], const float (&scale)[2], unsigned char* stage,
                                  Out* to, std::int64_t offset, std::int32_t there) {
  constexpr int row_bytes = S::head_dim_vo * 2, chunks = row_bytes / chunk_bytes;
  const int lane = threadIdx.x % 32;
  const auto at = [&](int row, int chunk) {
    return stage + row * row_bytes + swizzled_chunk(Swizzle::bytes_128, row, chunk) * chunk_bytes;
  };
#pragma unroll
  for (int k = 0; k < S::head_dim_vo / 16; ++k) {  // 16 features: four blocks of 8 x 8, as ldmatrix would read them
    const std::uint32_t block[4] = {gpu::pack<Out>(o[8 * k] * scale[0], o[8 * k + 1] * scale[0]),
                                    gpu::pack<Out>(o[8 * k + 2] * scale[1], o[8 * k + 3] * scale[1]),
                                    gpu::pack<Out>(o[8 * k + 4] * scale[0], o[8 * k + 5] * scale[0]),
                                    gpu::pack<Out>(o[8 * k + 6] * scale[1], o[8 * k + 7] * scale[1])};
    stmatrix_x4(at(lane % 16, 2 * k + lane / 16), block);
  }
  __syncwarp();  // the rows are in shared memory
#pragma unroll
  for (int i = lane; i < 16 * chunks; i += 32) {
    const int row = i / chunks, chunk = i % chunks;
    const std::int64_t begin = __shfl_sync(all_lanes, offset, row);
    if (row < there) *reinterpret_cast<uint4*>(to + begin + chunk * 8) = *reinterpret_cast<const uint4*>(at(row, chunk));
  }
  __syncwarp();  // the rows are read: the next item's may come
}

// Rows of f32, of o or of the partials. Thread i of a quad, 0 or 1, knows where row i begins, and whether it is there.
template <class S>
__device__ inline void store_floats(const float (&o)[S::head_dim_vo / 2], const float (&scale)[2], float* to,
                                    std::int64_t offset, bool there) {
  const int lane = threadIdx.x % 32, column = lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::int64_t begin = __shfl_sync(all_lanes, offset, lane / 4 * 4 + i);
    if (!__shfl_sync(all_lanes, there, lane / 4 * 4 + i)) continue;
#pragma unroll
    for (int j = 0; j < S::head_dim_vo / 8; ++j) {
      const float2 value{o[4 * j + 2 * i] * scale[i], o[4 * j + 2 * i + 1] * scale[i]};
      *reinterpret_cast<float2*>(to + begin + 8 * j + column) = value;
    }
  }
}

// The end of an item: its rows to o or to the partials. The four threads that share two rows share the work: every other
// one finishes the first, the others the second. Softmax: StaleSoftmax or RunningSoftmax.
template <class S, class Softmax, class Variant>
__device__ void finish(const float (&o)[S::head_dim_vo / 2], const Softmax& softmax, const Variant& variant,
                       const ItemRows<S, Variant>& mine, const PackedItem& item, const QueryRows& rows,
                       const PackedParams& plan, unsigned char* stage) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x % S::group_threads / 32, i = lane % 2;
  const SoftmaxState<float> states[2] = {softmax.state(0), softmax.state(1)}, state = i == 0 ? states[0] : states[1];
  const std::int32_t end = min(mine.first + mine.queries.group_rows, item.rows.size()), row = mine.row(i);
  const bool there = row < end, split = item.merge >= 0;
  const RowPlace place = mine.place(item, row);
  const std::int64_t slot = std::int64_t{item.slot} + row;
  float scale_of_row = state.inverse_d();
  if (split && there && lane % 4 < 2) plan.partial_lse_log2[slot] = state.lse_log2();
  if (!split && there) {
    const float constant = i == 0 ? variant.row_constant(mine.variant_query[0], mine.head[0])
                                  : variant.row_constant(mine.variant_query[1], mine.head[1]);
    scale_of_row = finish_row(rows, place, lane % 4 / 2, state, constant);
  }
  const int quad = lane / 4 * 4;
  const float scale[2] = {__shfl_sync(all_lanes, scale_of_row, quad), __shfl_sync(all_lanes, scale_of_row, quad + 1)};
  if (split || rows.o_dtype == DType::f32) {
    const std::int64_t offset = split ? slot * S::head_dim_vo : rows.o_offset(place);
    store_floats<S>(o, scale, split ? plan.partial_o : static_cast<float*>(rows.o), offset, there);
  } else {
    const std::int32_t first = mine.first + warp * 16;
    const std::int64_t offset = rows.o_offset(mine.place(item, first + lane % 16));
    unsigned char* of_warp = stage + warp * 16 * S::head_dim_vo * 2;
    if (rows.o_dtype == DType::f16) {
      store_rows<S>(o, scale, of_warp, static_cast<Half*>(rows.o), offset, end - first);
    } else {
      store_rows<S>(o, scale, of_warp, static_cast<BFloat16*>(rows.o), offset, end - first);
    }
  }
}

}  // namespace flashladder::gpu
