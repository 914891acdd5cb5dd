// The items of a CTA, for the one warp that asks for them: claimed by the plan's counter, or its queue of the plan. The record
// of the next item, and the claim of the one after, are under way while an item is computed.
#pragma once

#include <cstdint>

#include "gpu/attention/packed_work.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

// Parts whose pack is all heads have one copy of each item: a record is used as it is stored.
class WorkStream {
 public:
  __device__ WorkStream(const PackedParams& plan, bool claimed) : plan_(plan), claimed_(claimed) {}

  // Once, and take() after it: by one warp, together.
  __device__ void begin() {
    if (claimed_) {
      next_ = claim_by_one();
      look_ahead();
    } else {
      const PackedQueue& queue = plan_.view.queues[blockIdx.x];
      next_ = queue.begin, end_ = queue.end;
      there_ = !queue.first.rows.empty();
      part_ = load(queue.first);
    }
  }

  // The next item, to `item` in shared memory, which nobody reads any more. No rows: there is none, and none may be asked for
  // again. Others see the record after a barrier.
  __device__ void take(PackedItem& item) {
    const unsigned lane = threadIdx.x % 32;
    if (lane < parts) reinterpret_cast<uint4*>(&item)[lane] = there_ ? part_ : uint4{};
    if (there_) look_ahead();
  }

 private:
  static constexpr unsigned parts = sizeof(PackedItem) / sizeof(uint4);

  static __device__ uint4 load(const PackedItem& item) {
    const unsigned lane = threadIdx.x % 32;
    return lane < parts ? reinterpret_cast<const uint4*>(&item)[lane] : uint4{};
  }
  __device__ std::int32_t claim_by_one() const { return threadIdx.x % 32 == 0 ? claim(plan_) : 0; }

  __device__ void look_ahead() {
    std::int32_t at = next_++;
    if (claimed_) {
      at = __shfl_sync(all_lanes, at, 0);
      there_ = at < plan_.view.header->num_work;
      if (there_) next_ = claim_by_one();  // the counter counts on one answer of "none" for each CTA
    } else {
      there_ = at < end_;
    }
    if (there_) part_ = load(plan_.view.items[at]);
  }

  const PackedParams& plan_;
  bool claimed_, there_ = false;
  std::int32_t next_ = 0, end_ = 0;  // claimed: of lane 0, the work after part_'s; else the queue's
  uint4 part_{};                     // this lane's 16 bytes of the next record
};

}  // namespace flashladder::gpu
