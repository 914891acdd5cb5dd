// Plain memory traffic: to flush the L2 between timings, and to measure what this GPU can read at most.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace flashladder::gpu {

// Reads bytes (a multiple of 16) once. sink: device memory of 4 bytes, written only if the sum of what was read is an
// unlikely number, so that the reads can't be left out.
void read_all(const void* data, std::size_t bytes, float* sink, cudaStream_t stream);

}  // namespace flashladder::gpu
