// Joining the normalised partials of a cut tile, row by row and in chunk order, by the CTA that arrived last.
//
// All lse_log2 are there, so that nothing need be rescaled: first the heaviest, then every partial's weight against it. A
// row's features are spread over lanes, four each; a lane reads the lse_log2 of one partial, finds its weight, and hands it
// to the others by shuffles, while the partials themselves are still on their way to shared memory: many at once, whatever
// the registers hold, and by short code (at the end of a kernel it is fetched for the first time, which takes as long as
// the data). A thread copies what it reads itself: no barrier.
//
// What is added in which order, and how it is rounded, does not depend on how many fit into shared memory: whoever arrives
// last, between two items or at the end, writes the same bits.
#pragma once

#include <cstdint>

#include "core/softmax_state.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/attention/thread_group.cuh"
#include "gpu/ptx/cp_async.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

// Some of a merge's partials: `count` of them, every step-th from `first`.
struct Partials {
  const float *o, *lse_log2;  // [partial_rows, head_dim], [partial_rows]
  std::int32_t first, step, count;

  // The row where the i-th begins.
  __device__ std::int64_t slot(std::int32_t i, const PackedMerge& m) const {
    return m.first_slot + (first + std::int64_t{i} * step) * m.rows.size();
  }
};

// The four features of a merge's rows that a thread has in column c: the group's threads side by side, as many columns as
// the rows need. Warps stay together: lanes behind the last row take part in shuffles and touch nothing.
template <int head_dim, class Group>
struct MergeColumn {
  static constexpr int vectors = head_dim / 4;               // of a row, one a lane
  static constexpr int lanes = vectors < 32 ? vectors : 32;  // of a warp that share a row
  int at, row, feature;
  bool there;

  __device__ MergeColumn(const PackedMerge& m, int c)
      : at(c * Group::threads + Group::rank()), row(at / vectors), feature(at % vectors * 4),
        there(at < m.rows.size() * vectors) {}
  static __device__ int count(const PackedMerge& m) { return div_up(m.rows.size() * vectors, Group::threads); }

  // Of partial p + this lane's number. Around L1, which does not know what other SMs wrote.
  __device__ float lse_log2(const PackedMerge& m, const Partials& some, int p) const {
    const int mine = p + Group::rank() % lanes;
    return there && mine < some.count ? __ldcg(some.lse_log2 + some.slot(mine, m) + row) : SoftmaxState<float>::nothing;
  }

  // Of the heaviest partial. lse_log2: what this lane has of the first.
  __device__ float heaviest(const PackedMerge& m, const Partials& some, float lse_log2) const {
    for (int p = lanes; p < some.count; p += lanes) lse_log2 = fmaxf(lse_log2, this->lse_log2(m, some, p));
#pragma unroll
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
      lse_log2 = fmaxf(lse_log2, __shfl_xor_sync(all_lanes, lse_log2, offset));
    }
    return lse_log2;
  }
};

// stage: shared memory, [pieces][threads of the group]. A batch is up to `most` partials of a column.
template <int head_dim, class Group, int pieces>
struct PartialMerge {
  using Column = MergeColumn<head_dim, Group>;
  static constexpr int threads = Group::threads;
  static constexpr int most = pieces < Column::lanes ? pieces : Column::lanes;
  float4* stage;

  // Starts the copies of `batch` partials from p on; they go to piece `first` and on.
  __device__ void copy(const PackedMerge& m, const Partials& some, const Column& column, int p, int batch, int first) const {
    const float4* from = reinterpret_cast<const float4*>(some.o) + some.slot(p, m) * Column::vectors + column.at;
    float4* to = stage + first * threads + Group::rank();
#pragma unroll 4
    for (int i = 0; i < batch; ++i, to += threads, from += some.step * m.rows.size() * Column::vectors) {
      cp_async_16(to, from, column.there);
    }
  }

  // Adds them; lane i has the weight of the i-th. value is not normalised.
  __device__ void add(SoftmaxState<float>& state, float4& value, float weights, int batch, int first) const {
    const float4* from = stage + first * threads + Group::rank();
#pragma unroll 4
    for (int i = 0; i < batch; ++i, from += threads) {
      const float weight = __shfl_sync(all_lanes, weights, i, Column::lanes);
      state.d = __fadd_rn(state.d, weight);
      value = {__fmaf_rn(from->x, weight, value.x), __fmaf_rn(from->y, weight, value.y),
               __fmaf_rn(from->z, weight, value.z), __fmaf_rn(from->w, weight, value.w)};
    }
  }

  // All threads of the group. write(row, feature, state, float4 of o, not normalised). Waits for all of a thread's copies,
  // those of tiles to come as well, which would be waited for next.
  template <class Write>
  __device__ void operator()(const PackedMerge& m, const Partials& some, const Write& write) const {
    const int columns = Column::count(m);
    const bool all = some.count <= most && some.count * columns <= pieces;
    const int at_once = all ? columns : 1;  // columns, if each is one batch
    for (int first = 0; first < columns; first += at_once) {
      SoftmaxState<float> state;
      float4 value{};
      for (int p = 0; p < some.count; p += most) {
        const int batch = min(most, some.count - p);
        for (int c = 0; c < at_once; ++c) copy(m, some, Column(m, first + c), p, batch, c * batch);
        cp_async_commit();
        float lse_log2 = Column(m, first).lse_log2(m, some, p);
        for (int c = 0; c < at_once; ++c) {
          const Column column(m, first + c);
          if (p == 0) state = {column.heaviest(m, some, lse_log2), 0}, value = {};
          const float weights = SoftmaxState<float>::weight(lse_log2, state.m);
          lse_log2 = Column(m, first + c + 1).lse_log2(m, some, p);  // under way while this column is added
          cp_async_wait<0>();
          add(state, value, weights, batch, c * batch);
          if (column.there && p + most >= some.count) write(column.row, column.feature, state, value);
        }
      }
    }
  }
};

}  // namespace flashladder::gpu
