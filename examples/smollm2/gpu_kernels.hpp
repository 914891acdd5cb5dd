// The three small operations that neither the library nor cuBLAS has. All pointers are the device's; each call only
// enqueues.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace gpu_kernels {

// out [n, d] = rows of table [any, d]
void gather(const __half* table, const std::int32_t* rows, __half* out, int n, int d, cudaStream_t stream);
// out [n, d] = silu(gate) * up of gate_up [n, 2 d], in float, rounded once
void silu(const __half* gate_up, __half* out, int n, int d, cudaStream_t stream);
// ids [n]: the first largest of each row of logits [n, d]
void argmax(const float* logits, std::int32_t* ids, int n, int d, cudaStream_t stream);

}  // namespace gpu_kernels
