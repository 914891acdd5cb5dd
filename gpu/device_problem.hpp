// An AttentionProblem on the GPU, a Plan on the GPU: uploaded once, borrowed by kernels as views and plain params.
#pragma once

#include <cstdint>

#include "core/attention_problem.hpp"
#include "core/plan.hpp"
#include "gpu/device_buffer.hpp"

namespace flashladder::gpu {

// Validates the host's problem (page ids too: a kernel checks nothing), then copies q, caches, page table and sinks.
class DeviceProblem {
 public:
  // q must be dense. Throws InputError as validate() does, CudaError.
  explicit DeviceProblem(const AttentionProblem& host);

  // The same problem with device pointers: not to be read on the host. Valid as long as this object lives.
  const AttentionProblem& view() const { return view_; }

 private:
  void upload_cache(const PagedKvCache& host);

  DeviceBuffer q_, k_, v_, qo_indptr_, kv_indptr_, kv_indices_, last_page_len_, mask_, sinks_;
  AttentionProblem view_;
};

// What the kernels read of a plan of one part.
class DevicePlan {
 public:
  explicit DevicePlan(const Plan& plan);

  const WorkItem* items() const { return items_.as<const WorkItem>(); }    // [num_items]
  const Merge* merges() const { return merges_.as<const Merge>(); }        // [num_merges]
  std::int64_t num_items = 0, num_merges = 0, partial_rows = 0;
  std::int32_t query_tile = 1;  // most packed rows in an item

 private:
  DeviceBuffer items_, merges_;
};

}  // namespace flashladder::gpu
