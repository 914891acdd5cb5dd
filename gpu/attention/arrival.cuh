// The merge without a second launch: every CTA that has written a partial counts itself, and the one that comes last joins
// them all, in chunk order. (Fixed-order "last block" reduction: CUDA C++ Programming Guide, "Memory Fence Functions".)
//
// The counter releases what the CTA has written and acquires what the others have (PTX ISA, "Memory Consistency Model":
// the barrier before it makes the whole CTA's writes part of that). It wraps to zero with the last arrival, and is ready
// for the next launch.
#pragma once

#include <cstdint>

#include "gpu/attention/packed_plan.hpp"
#include "gpu/attention/partial_merge.cuh"
#include "gpu/attention/thread_group.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/ptx/atomic_inc.cuh"
#include "gpu/ptx/special_registers.cuh"

namespace flashladder::gpu {

// Counts one arrival of `expected`; true for the last of them. By one thread, after a barrier behind the CTA's writes.
__device__ inline bool arrive(std::uint32_t* counter, std::int32_t expected) {
  return atomic_inc_acq_rel(counter, expected - 1) + 1 == static_cast<std::uint32_t>(expected);
}

// A CTA's arrival at a merge, in two steps, so that the counter's answer can be awaited while other work goes on.
// Group: the threads that compute and write (thread_group.cuh).
template <int head_dim, class Group>
class Arrival {
 public:
  __device__ explicit Arrival(bool& last) : last_(last) {}  // last: one flag in shared memory

  // All threads of the group, when they have written the item's partial. m: its merge, which was read when the item began.
  __device__ void announce(const PackedParams& plan, const PackedItem& item, const PackedMerge& m) {
    Group::sync();  // the whole group's partial is written; the counter publishes it
    merge_ = item.merge, slot_ = item.slot;
    if (Group::rank() != 0) return;
    last_ = m.grouped() ? arrive(plan.view.arrivals + m.first_group + group(m), size(m, group(m)))
                        : arrive(plan.view.arrivals + merge_, m.num_partials);
  }

  // All threads of the group, later. If this CTA was the last, joins what was announced and hands on each row of the result:
  // write_final(merge, row, feature, state, float4 of o, not normalised). join: a PartialMerge, with shared memory that
  // nobody reads after the item's rows were written, and nobody writes before the next item's are.
  template <class Join, class Write>
  __device__ void settle(const PackedParams& plan, const Join& join, const Write& write_final) {
    if (merge_ < 0) return;
    const PackedMerge m = plan.view.merges[merge_];
    Group::sync();  // the answer of the counter is in shared memory
    bool last = last_, in_group = m.grouped();
    Partials some{plan.partial_o, plan.partial_lse_log2, 0, 1, m.num_partials};
    if (in_group) some.first = group(m) * PackedMerge::group_size, some.count = size(m, group(m));
    while (last) {
      join(m, some, [&](int r, int feature, SoftmaxState<float> state, float4 value) {
        if (in_group) {  // in the place of its first partial
          write_partial(plan.partial_o, plan.group_lse_log2, some.slot(0, m) + r, head_dim, feature, state, value);
        } else {
          write_final(m, r, feature, state, value);
        }
      });
      if (!in_group) break;
      Group::sync();  // the group's partial is written
      if (Group::rank() == 0) last_ = arrive(plan.view.arrivals + merge_, m.num_groups());
      Group::sync();  // the answer of the counter is in shared memory
      last = last_, in_group = false;
      some = {plan.partial_o, plan.group_lse_log2, 0, PackedMerge::group_size, m.num_groups()};
    }
    merge_ = -1;
  }

 private:
  __device__ std::int32_t group(const PackedMerge& m) const {
    return (slot_ - m.first_slot) / m.rows.size() / PackedMerge::group_size;
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
    if (times_ != nullptr && threadIdx.x == 0) times_[0] = read_globaltimer();
  }
  __device__ void stop() const {
    if (times_ == nullptr) return;
    __syncthreads();  // the CTA's time ends with its last warp
    if (threadIdx.x == 0) times_[1] = read_globaltimer();
  }

 private:
  std::uint64_t* times_;
};

}  // namespace flashladder::gpu
