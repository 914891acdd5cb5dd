// The one way a kernel is launched: checked, on the caller's stream, and with no more said than grid, block and shared
// memory. What a kernel must be allowed for that is said to the driver once in a process: cudaDeviceReset would undo it.
#pragma once

#include <cuda_runtime.h>

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
  unsigned cluster = 1;          // blocks along x that share a cluster (sm_90 and newer)
  bool programmatic = false;     // may start before the previous kernel on the stream ends: gpu/ptx/griddepcontrol.cuh
  std::source_location where = std::source_location::current();  // who launches, for the error
};

// kernel may take so many bytes of dynamic shared memory on the current device from here on; or clusters of more CTAs than
// every GPU with clusters takes.
void allow_shared_bytes(const void* kernel, std::size_t bytes, const std::source_location& where);
void allow_large_clusters(const void* kernel, const std::source_location& where);

// The attributes of a launch, and what a kernel must be allowed before.
class LaunchConfig {
 public:
  template <class... Params>
  LaunchConfig(void (*kernel)(Params...), const LaunchShape& shape, cudaStream_t stream) {
    // What any kernel gets is 48 KB (CUDA C++ Programming Guide, compute capabilities), and what it declares itself, which no
    // launch names, counts too.
    constexpr std::size_t declared = 16 * 1024, without_asking = 48 * 1024 - declared;
    const auto* address = reinterpret_cast<const void*>(kernel);
    if (shape.shared_bytes > without_asking) allow_shared_bytes(address, shape.shared_bytes, shape.where);
    config_.gridDim = dim3(static_cast<unsigned>(shape.grid), shape.grid_y, shape.grid_z);
    config_.blockDim = shape.block;
    config_.dynamicSmemBytes = shape.shared_bytes;
    config_.stream = stream;
    config_.attrs = attributes_.data();
    if (shape.programmatic && has_programmatic_launch()) {
      cudaLaunchAttribute& early = attributes_[config_.numAttrs++];
      early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
      early.val.programmaticStreamSerializationAllowed = 1;
    }
    constexpr unsigned portable = 8;  // CTAs of a cluster that every GPU with clusters takes
    if (shape.cluster > portable) allow_large_clusters(address, shape.where);
    if (shape.cluster > 1) {
      cudaLaunchAttribute& cluster = attributes_[config_.numAttrs++];
      cluster.id = cudaLaunchAttributeClusterDimension;
      cluster.val.clusterDim = {shape.cluster, 1, 1};
    }
  }
  LaunchConfig(const LaunchConfig&) = delete;
  LaunchConfig& operator=(const LaunchConfig&) = delete;

  const cudaLaunchConfig_t* get() const { return &config_; }

 private:
  cudaLaunchConfig_t config_{};
  std::array<cudaLaunchAttribute, 2> attributes_{};
};

template <class... Params>
void launch(void (*kernel)(Params...), const LaunchShape& shape, cudaStream_t stream, const Params&... params) {
  if (shape.grid == 0) return;
  const LaunchConfig config(kernel, shape, stream);
  check(cudaLaunchKernelEx(config.get(), kernel, params...), shape.where);
}

// Clusters of this shape that the current GPU runs at once; 0 where it has none so large, as a part of a GPU may.
template <class... Params>
int resident_clusters(void (*kernel)(Params...), const LaunchShape& shape) {
  int clusters = 0;
  const LaunchConfig config(kernel, shape, nullptr);
  const cudaError_t status = cudaOccupancyMaxActiveClusters(&clusters, kernel, config.get());
  if (status == cudaErrorInvalidClusterSize) {
    cudaGetLastError();  // an answer, and no error of whoever asks next
    return 0;
  }
  check(status, shape.where);
  return clusters;
}

}  // namespace flashladder::gpu
