// The merge without a second launch: every CTA that has written a partial counts itself, and the one that comes last joins
// them all, in chunk order. (Fixed-order "last block" reduction: CUDA C++ Programming Guide, "Memory Fence Functions".)
//
// The counter releases what the CTA has written and acquires what the others have (PTX ISA, "Memory Consistency Model":
// the barrier before it makes the whole CTA's writes part of that). It wraps to zero with the last arrival, and is ready
// for the next launch.
#pragma once

#include <cstdint>

#include "gpu/decode/decode_params.hpp"
#include "gpu/decode/packed_plan.hpp"
#include "gpu/decode/write_row.cuh"

namespace flashladder::gpu {

// The persistent kernels' second parameter.
struct PackedParams {
  PackedView view;
  float* partial_o = nullptr;           // [partial_rows, head_dim], normalised
  float* partial_lse_log2 = nullptr;    // [partial_rows]
  float* group_lse_log2 = nullptr;      // [partial_rows] of groups: their o takes the place of their first partial's
  std::uint64_t* cta_times = nullptr;   // [num_ctas, 2] when each CTA began and ended, ns of the GPU's clock; or not asked
};

// Counts one arrival of `expected`; true for the last of them. By one thread, after a barrier behind the CTA's writes.
__device__ inline bool arrive(std::uint32_t* counter, std::int32_t expected) {
  std::uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(counter), "r"(expected - 1)
               : "memory");
  return before + 1 == static_cast<std::uint32_t>(expected);
}

// The partials p = first, first + step ... below end of a merge, and where their lse_log2 lie.
struct Partials {
  const float* lse_log2;
  std::int32_t first, step, end;
};

// Four normalised partials into state and value (four features of o, not normalised). Always four, in order, and with every
// rounding spelled out: whoever arrives last, between two items or at the end and with however large a batch of loads,
// computes the same bits.
inline constexpr int absorbed_at_once = 4;
__device__ inline void absorb(SoftmaxState<float>& state, float4& value, const float* lse_log2, const float4* o) {
  float most = state.m;
#pragma unroll
  for (int u = 0; u < absorbed_at_once; ++u) most = fmaxf(most, lse_log2[u]);
  const float rescale = SoftmaxState<float>::weight(state.m, most);
  state = {most, __fmul_rn(state.d, rescale)};
  value = {__fmul_rn(value.x, rescale), __fmul_rn(value.y, rescale), __fmul_rn(value.z, rescale),
           __fmul_rn(value.w, rescale)};
#pragma unroll
  for (int u = 0; u < absorbed_at_once; ++u) {
    const float weight = SoftmaxState<float>::weight(lse_log2[u], most);
    state.d = __fadd_rn(state.d, weight);
    value = {__fmaf_rn(o[u].x, weight, value.x), __fmaf_rn(o[u].y, weight, value.y), __fmaf_rn(o[u].z, weight, value.z),
             __fmaf_rn(o[u].w, weight, value.w)};
  }
}

// Joins them row by row: write(row, feature, state, float4 of o, not normalised), spread over the threads. Read batch by
// batch, so that a batch's loads are all under way at once; around L1, which knows nothing of what other SMs wrote.
template <int head_dim, int threads, int batch, class Write>
__device__ void merge_partials(const PackedParams& plan, const PackedMerge& m, Partials some, const Write& write) {
  static_assert(batch % absorbed_at_once == 0, "a batch is absorbed four partials at a time");
  constexpr int vectors = head_dim / 4;
  const auto* partial_o = reinterpret_cast<const float4*>(plan.partial_o);
  for (int at = threadIdx.x; at < m.rows * vectors; at += threads) {
    const int r = at / vectors, vector = at % vectors;
    SoftmaxState<float> state;
    float4 value{};
    for (int p = some.first; p < some.end; p += batch * some.step) {
      float lse_log2[batch];
      float4 o[batch];
#pragma unroll
      for (int u = 0; u < batch; ++u) {
        const std::int64_t slot = m.first_slot + std::int64_t{p + u * some.step} * m.rows + r;
        const bool there = p + u * some.step < some.end;
        lse_log2[u] = there ? __ldcg(some.lse_log2 + slot) : SoftmaxState<float>::nothing;
        o[u] = there ? __ldcg(partial_o + slot * vectors + vector) : float4{};
      }
#pragma unroll
      for (int group = 0; group < batch; group += absorbed_at_once) {
        if (p + group * some.step < some.end) absorb(state, value, lse_log2 + group, o + group);
      }
    }
    write(r, vector * 4, state, value);
  }
}

// A CTA's arrival at a merge, in two steps, so that the counter's answer can be awaited while other work goes on.
template <int head_dim, int threads>
class Arrival {
 public:
  __device__ explicit Arrival(bool& last) : last_(last) {}  // last: one flag in shared memory

  // All threads, when the CTA has written the item's partial. m: its merge, which was read when the item began.
  __device__ void announce(const PackedParams& plan, const PackedItem& item, const PackedMerge& m) {
    __syncthreads();  // the whole CTA's partial is written; the counter publishes it
    merge_ = item.merge, slot_ = item.slot;
    if (threadIdx.x != 0) return;
    last_ = m.grouped() ? arrive(plan.view.arrivals + m.first_group + group(m), size(m, group(m)))
                        : arrive(plan.view.arrivals + merge_, m.num_partials);
  }

  // All threads, later. Merges what has been announced, if this CTA was the last. batch: partials whose loads are under way
  // at once.
  template <int batch>
  __device__ void settle(const DecodeParams& p, const PackedParams& plan) {
    if (merge_ < 0) return;
    const PackedMerge m = plan.view.merges[merge_];
    __syncthreads();  // the answer of the counter is in shared memory
    bool last = last_;
    if (last && m.grouped()) {
      const std::int32_t first = group(m) * PackedMerge::group_size;
      const Partials mine{plan.partial_lse_log2, first, 1, first + size(m, group(m))};
      const auto to_group = [&](int r, int feature, SoftmaxState<float> state, float4 value) {
        const std::int64_t slot = m.first_slot + std::int64_t{first} * m.rows + r;
        write_partial(plan.partial_o, plan.group_lse_log2, slot, head_dim, feature, state, value);
      };
      merge_partials<head_dim, threads, batch>(plan, m, mine, to_group);
      __syncthreads();  // the group's partial is written
      if (threadIdx.x == 0) last_ = arrive(plan.view.arrivals + merge_, m.num_groups());
      __syncthreads();  // the answer of the counter is in shared memory
      last = last_;
    }
    if (last) {
      const Partials all{m.grouped() ? plan.group_lse_log2 : plan.partial_lse_log2, 0,
                         m.grouped() ? PackedMerge::group_size : 1, m.num_partials};
      const auto to_output = [&](int r, int feature, SoftmaxState<float> state, float4 value) {
        write_output(p, std::int64_t{m.row} + r, head_dim, feature, state, value);
      };
      merge_partials<head_dim, threads, batch>(plan, m, all, to_output);
    }
    merge_ = -1;
  }

 private:
  __device__ std::int32_t group(const PackedMerge& m) const {
    return (slot_ - m.first_slot) / m.rows / PackedMerge::group_size;
  }
  static __device__ std::int32_t size(const PackedMerge& m, std::int32_t group) {
    return min(PackedMerge::group_size, m.num_partials - group * PackedMerge::group_size);
  }

  bool& last_;
  std::int32_t merge_ = -1, slot_ = 0;  // announced, not settled
};

// When a CTA began and ended, for whoever compares with the plan's prediction.
class CtaClock {
 public:
  __device__ explicit CtaClock(std::uint64_t* times) : times_(times == nullptr ? nullptr : times + 2 * blockIdx.x) {
    if (times_ != nullptr && threadIdx.x == 0) times_[0] = now();
  }
  __device__ void stop() const {
    if (times_ == nullptr) return;
    __syncthreads();  // the CTA's time ends with its last warp
    if (threadIdx.x == 0) times_[1] = now();
  }

 private:
  static __device__ std::uint64_t now() {
    std::uint64_t ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
  }
  std::uint64_t* times_;
};

}  // namespace flashladder::gpu
