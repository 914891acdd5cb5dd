// The works that a CTA claims, for the warp that copies, in two steps that are both ahead of it: the number of the next work
// is claimed while the record of this one is awaited, and the record of the next is on its way to shared memory while the
// boxes of this one are asked for. So neither the counter nor a record costs time between two works.
#pragma once

#include <cstdint>

#include "gpu/attention/packed_work.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

class WorkAhead {
 public:
  // All of it by one warp. coming: in shared memory, nobody else's; for the head of copy 0 (packed_plan.hpp).
  __device__ WorkAhead(const PackedParams& plan, std::int32_t group_size, PackedItem& coming)
      : plan_(plan), group_size_(group_size), coming_(coming), claimed_(claim_by_one()) {
    start_next();
  }

  // The next work's record, to `item`, which nobody reads any more; false: there is none, and none may be asked for again,
  // because the counter counts on one answer of "none" for each CTA.
  __device__ bool take(PackedItem& item) {
    if (work_ >= plan_.view.header->num_work) return false;
    claimed_ = claim_by_one();
    cp_async_wait<0>();
    __syncwarp();  // the record is there, what other lanes copied too
    settle_work(plan_, group_size_, copy_, coming_, item);
    return true;
  }
  // Starts the copy of the record of the work that was claimed meanwhile: after each take().
  __device__ void start_next() {
    work_ = __shfl_sync(all_lanes, claimed_, 0);
    const PackedHeader& header = *plan_.view.header;
    if (work_ < header.num_work) copy_ = start_work(plan_, header, work_, coming_).copy;
    cp_async_commit();
  }

 private:
  __device__ std::int32_t claim_by_one() const { return threadIdx.x % 32 == 0 ? claim(plan_) : 0; }

  const PackedParams& plan_;
  std::int32_t group_size_;
  PackedItem& coming_;
  std::int32_t claimed_;              // of lane 0
  std::int32_t work_ = 0, copy_ = 0;  // the next one, and for which of the heads that share its record
};

}  // namespace flashladder::gpu
