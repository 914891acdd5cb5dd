#include "gpu/traffic.hpp"

#include <cstdint>

#include "gpu/device.hpp"
#include "gpu/launch.hpp"

namespace flashladder::gpu {
namespace {

constexpr int threads = 512, blocks_per_sm = 4, in_flight = 8;  // 4 * 512 * 8 * 16 B = 256 KB under way in an SM

__global__ void traffic_read_kernel(const uint4* data, std::size_t n, float* sink) {
  const std::size_t stride = std::size_t{gridDim.x} * threads;
  unsigned sum = 0;
  for (std::size_t i = blockIdx.x * std::size_t{threads} + threadIdx.x; i < n; i += stride * in_flight) {
#pragma unroll
    for (int u = 0; u < in_flight; ++u) {
      const uint4 x = i + u * stride < n ? data[i + u * stride] : uint4{};
      sum += x.x ^ x.y ^ x.z ^ x.w;
    }
  }
  if (sum == 0x9e3779b9u) *sink = 1;
}

}  // namespace

void read_all(const void* data, std::size_t bytes, float* sink, cudaStream_t stream) {
  const std::int64_t blocks = std::int64_t{multiprocessors()} * blocks_per_sm;
  launch(traffic_read_kernel, {.grid = blocks, .block = threads}, stream, static_cast<const uint4*>(data),
         bytes / sizeof(uint4), sink);
}

}  // namespace flashladder::gpu
