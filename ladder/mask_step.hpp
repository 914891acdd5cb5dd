// What a GPU rung does ahead of a kernel that reads a custom mask: the mask's bytes become bits at the end of the workspace.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

#include "gpu/attention/attention_call.hpp"
#include "gpu/attention/mask_bits.hpp"
#include "gpu/device_buffer.hpp"
#include "ladder/rung.hpp"

namespace flashladder::ladder {

// Of the workspace, with `bytes` before that are not the mask's. Without a custom mask: `bytes`.
std::size_t bytes_with_mask(std::size_t bytes, const CaseSpec& spec);

class MaskStep {
 public:
  // before: the bytes in front, as above.
  MaskStep(const Buffers& buffers, const CaseSpec& spec, std::size_t before);
  // The call with the mask's bits; where there is no custom mask itself.
  gpu::AttentionCall operator()(const gpu::AttentionCall& call, cudaStream_t stream) const;

 private:
  std::shared_ptr<const gpu::DeviceBuffer> list_;
  gpu::MaskMemory to_;
};

}  // namespace flashladder::ladder
