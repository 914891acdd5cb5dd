// NaN where a kernel must not look: for tests.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace flashladder::gpu {

// Fills every SM's shared memory with 0xff bytes, NaN in every format, or with another word: what a kernel reads there
// before its copies have arrived is then not the last kernel's data by chance.
void poison_shared_memory(cudaStream_t stream, std::uint32_t word = 0xffffffffu);

}  // namespace flashladder::gpu
