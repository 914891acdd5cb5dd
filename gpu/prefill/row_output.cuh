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
#include "gpu/ptx/tma.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

// Rows of 16-bit elements, 16 of a warp, through shared memory: as a box where all of them are there, else 16 bytes at a
// time. o: not scaled yet, scale: of this thread's two rows. stage: of the warp group, of each of its warps
// [head_dim_vo / 64][16 rows][128 bytes], swizzled. first: the warp's first row of the item; rows [first, end) exist.
template <class S, class Out, class Rows>
__device__ inline void store_rows(const float (&o)[S::head_dim_vo / 2], const float (&scale)[2], const QueryRows& rows,
                                  const Rows& mine, const PackedItem& item, std::int32_t first, std::int32_t end,
                                  unsigned char* stage) {
  constexpr int chunks = S::head_dim_vo * 2 / chunk_bytes, panel_bytes = p11::warp_rows * 128;
  const auto thread = static_cast<unsigned>(thread_again());  // addresses are not kept through the loop over tiles
  const int lane = static_cast<int>(thread % 32);
  unsigned char* of_warp = stage + thread % S::group_threads / 32 * p11::warp_rows * S::head_dim_vo * 2;
  const auto at = [&](int row, int chunk) {
    return of_warp + chunk / 8 * panel_bytes + row * 128 + swizzled_chunk(Swizzle::bytes_128, row, chunk % 8) * chunk_bytes;
  };
  wait_for_reads_of_stores();
  __syncwarp();  // the rows before have left
#pragma unroll
  for (int k = 0; k < S::head_dim_vo / 16; ++k) {  // 16 features: four blocks of 8 x 8, as ldmatrix would read them
    const std::uint32_t block[4] = {gpu::pack<Out>(o[8 * k] * scale[0], o[8 * k + 1] * scale[0]),
                                    gpu::pack<Out>(o[8 * k + 2] * scale[1], o[8 * k + 3] * scale[1]),
                                    gpu::pack<Out>(o[8 * k + 4] * scale[0], o[8 * k + 5] * scale[0]),
                                    gpu::pack<Out>(o[8 * k + 6] * scale[1], o[8 * k + 7] * scale[1])};
    stmatrix_x4(at(lane % 16, 2 * k + lane / 16), block);
  }
  if (mine.queries.o_in_boxes && first + p11::warp_rows <= end) {
    fence_proxy_async();
    __syncwarp();  // all lanes' blocks are there for the copy engine
    if (lane == 0) {
      store_box(mine.queries.o, of_warp, {0, item.head * mine.queries.pack(), mine.place(item, first).query, 0});
      commit_stores();
    }
    return;
  }
  const std::int64_t offset = rows.o_offset(mine.place(item, first + lane % 16));
  __syncwarp();  // the rows are in shared memory
#pragma unroll
  for (int i = lane; i < 16 * chunks; i += 32) {
    const int row = i / chunks, chunk = i % chunks;
    const std::int64_t begin = __shfl_sync(all_lanes, offset, row);
    if (first + row < end) {
      auto* to = reinterpret_cast<uint4*>(static_cast<Out*>(rows.o) + begin + chunk * 8);
      *to = *reinterpret_cast<const uint4*>(at(row, chunk));
    }
  }
}

// Rows of f32, of o or of the partials. Thread i of a quad, 0 or 1, knows where row i begins, and whether it is there.
template <class S>
__device__ inline void store_floats(const float (&o)[S::head_dim_vo / 2], const float (&scale)[2], float* to,
                                    std::int64_t offset, bool there) {
  const int lane = static_cast<int>(static_cast<unsigned>(thread_again()) % 32), column = lane % 4 * 2;
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

// What the softmax of a thread's two rows comes to. The four threads that share two rows share the work: every other one
// finishes the first, the others the second.
struct RowEnds {
  float scale[2];  // of o
  float lse;       // of one of them, a partial's or the output's, and where it goes
  float* to;       // or nullptr: nowhere

  __device__ void store_lse() const {
    if (to != nullptr) *to = lse;
  }
};
// Softmax: StaleSoftmax or RunningSoftmax.
template <class S, class Softmax, class Variant>
__device__ RowEnds finish_softmax(const Softmax& softmax, const Variant& variant, const ItemRows<S, Variant>& mine,
                                  const PackedItem& item, const QueryRows& rows, const PackedParams& plan) {
  const int lane = static_cast<int>(static_cast<unsigned>(thread_again()) % 32), i = lane % 2, quad = lane / 4 * 4;
  const SoftmaxState<float> states[2] = {softmax.state(0), softmax.state(1)}, state = i == 0 ? states[0] : states[1];
  const std::int32_t row = mine.row(i);
  FinishedRow<float> end{state.inverse_d(), state.lse_log2()};
  float lse = end.lse_log2;
  float* to = nullptr;
  if (item.merge >= 0) {  // partials stay base 2
    to = plan.partial_lse_log2 + item.slot + row;
  } else {
    const float constant = i == 0 ? variant.row_constant(mine.variant_query[0], mine.head[0])
                                  : variant.row_constant(mine.variant_query[1], mine.head[1]);
    const RowPlace place = mine.place(item, row);
    end.lse_log2 += constant;
    if (!rows.plain_ends) end = finished_row(rows, place, state, constant);  // the long way: exponents of differences
    lse = end.lse_log2 * rows.lse_factor;
    if (rows.lse != nullptr) to = rows.lse + rows.lse_offset(place);
  }
  if (lane % 4 >= 2 || row >= mine.end(item)) to = nullptr;
  return {{__shfl_sync(all_lanes, end.scale, quad), __shfl_sync(all_lanes, end.scale, quad + 1)}, lse, to};
}

// The rows of o, to the output or to the partials.
template <class S, class Variant>
__device__ void store_output(const float (&o)[S::head_dim_vo / 2], const float (&scale)[2], const ItemRows<S, Variant>& mine,
                             const PackedItem& item, const QueryRows& rows, const PackedParams& plan, unsigned char* stage) {
  const bool split = item.merge >= 0;
  const auto thread = static_cast<unsigned>(thread_again());
  if (split || rows.o_dtype == DType::f32) {
    const std::int32_t row = mine.row(static_cast<int>(thread % 2));
    const std::int64_t offset =
        split ? (std::int64_t{item.slot} + row) * S::head_dim_vo : rows.o_offset(mine.place(item, row));
    store_floats<S>(o, scale, split ? plan.partial_o : static_cast<float*>(rows.o), offset, row < mine.end(item));
    return;
  }
  const std::int32_t first = mine.first() + static_cast<std::int32_t>(thread % S::group_threads / 32) * p11::warp_rows;
  if (rows.o_dtype == DType::f16) {
    store_rows<S, Half>(o, scale, rows, mine, item, first, mine.end(item), stage);
  } else {
    store_rows<S, BFloat16>(o, scale, rows, mine, item, first, mine.end(item), stage);
  }
}

// The end of an item, where nothing else is to be done meanwhile; then this warp's part of `stage` is free.
template <class S, class Softmax, class Variant>
__device__ void finish(const float (&o)[S::head_dim_vo / 2], const Softmax& softmax, const Variant& variant,
                       const ItemRows<S, Variant>& mine, const PackedItem& item, const QueryRows& rows,
                       const PackedParams& plan, unsigned char* stage) {
  const RowEnds ends = finish_softmax<S>(softmax, variant, mine, item, rows, plan);
  store_output<S>(o, ends.scale, mine, item, rows, plan, stage);
  ends.store_lse();
  wait_for_reads_of_stores();
}

}  // namespace flashladder::gpu
