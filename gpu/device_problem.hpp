// An AttentionProblem on the GPU: uploaded once, borrowed by kernels as a view.
#pragma once

#include <cstdint>

#include "core/attention_problem.hpp"
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

  DeviceBuffer q_, k_, v_, qo_indptr_, kv_indptr_, kv_indices_, last_page_len_, block_tables_, seq_lens_, mask_,
      sinks_, k_scales_, v_scales_;
  AttentionProblem view_;
};

}  // namespace flashladder::gpu
