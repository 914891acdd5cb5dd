// The one way a kernel is launched: checked, on the caller's stream, and with no more said than grid, block and shared
// memory.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <source_location>

#include "gpu/check.hpp"
#include "gpu/device.hpp"

namespace flashladder::gpu {

struct LaunchShape {
  std::int64_t grid = 0;  // blocks along x; 0: nothing is launched
  unsigned grid_y = 1, grid_z = 1;
  dim3 block;             // threads
  std::size_t shared_bytes = 0;  // dynamic
  std::size_t most_shared_bytes = 0;  // of any launch of this kernel, where they differ. Other threads may launch it at the
                                      // same time, and what it is allowed must not sink in between
  unsigned cluster = 1;          // blocks along x that share a cluster (sm_90 and newer)
  bool programmatic = false;     // may start before the previous kernel on the stream ends: gpu/ptx/griddepcontrol.cuh
  std::source_location where = std::source_location::current();  // who launches, for the error
};

template <class... Params>
void launch(void (*kernel)(Params...), const LaunchShape& shape, cudaStream_t stream, const Params&... params) {
  if (shape.grid == 0) return;
  constexpr std::size_t without_asking =
      48 * 1024;  // what any kernel gets (CUDA C++ Programming Guide, compute capabilities)
  const std::size_t allowed = std::max(shape.shared_bytes, shape.most_shared_bytes);
  if (allowed > without_asking) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(allowed)), shape.where);
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.grid), shape.grid_y, shape.grid_z);
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  std::array<cudaLaunchAttribute, 2> attributes{};
  config.attrs = attributes.data();
  if (shape.programmatic && has_programmatic_launch()) {
    cudaLaunchAttribute& early = attributes[config.numAttrs++];
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {shape.cluster, 1, 1};
  }
  check(cudaLaunchKernelEx(&config, kernel, params...), shape.where);
}

}  // namespace flashladder::gpu
