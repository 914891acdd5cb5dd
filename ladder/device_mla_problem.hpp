// An MlaProblem on the GPU: uploaded once, borrowed by kernels as a view. Compiled only with CUDA.
#pragma once

#include "core/mla_problem.hpp"
#include "gpu/device_buffer.hpp"

namespace flashladder::ladder {

// Validates the host's problem (page ids too: a kernel checks nothing), then copies it, each tensor from its first element to
// its last: parts that interleave in one tensor are copied together.
class DeviceMlaProblem {
 public:
  explicit DeviceMlaProblem(const MlaProblem& host);

  // The same problem with device pointers: not to be read on the host. Valid as long as this object lives.
  const MlaProblem& view() const { return view_; }

 private:
  gpu::DeviceBuffer q_[2], cache_[2], qo_indptr_, kv_indptr_, kv_indices_, last_page_len_, block_tables_, seq_lens_;
  MlaProblem view_;
};

}  // namespace flashladder::ladder
