#include "gpu/poison.hpp"

#include <cstdint>

#include "gpu/check.hpp"
#include "gpu/device.hpp"
#include "gpu/launch.hpp"

namespace flashladder::gpu {
namespace {

constexpr int threads = 1024;

// Blocks as large as an SM's shared memory spread over the SMs, one on each. Each goes on for a while, lest an SM take the
// blocks of two.
__global__ void poison_kernel(std::uint32_t vectors, std::uint32_t word) {
  extern __shared__ uint4 shared[];
  for (std::uint32_t i = threadIdx.x; i < vectors; i += threads) shared[i] = {word, word, word, word};
  __syncthreads();  // all of it is written before the block ends
  __nanosleep(20000);
  if (shared[threadIdx.x].x != word) shared[0].x = 1;  // a reader, so that the writes are not left out
}

}  // namespace

void poison_shared_memory(cudaStream_t stream, std::uint32_t word) {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  launch(poison_kernel,
         {.grid = multiprocessors(), .block = threads, .shared_bytes = static_cast<std::size_t>(bytes)}, stream,
         static_cast<std::uint32_t>(bytes / sizeof(uint4)), word);
}

}  // namespace flashladder::gpu
