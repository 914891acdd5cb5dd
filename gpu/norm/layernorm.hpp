// LayerNorm on the GPU: y = (x - mean) * rsqrt(variance + eps) * gamma + beta over the innermost dimension d, as
// reference/layernorm.hpp has it, with its rules for equal elements, infinities, NaN and squares that leave float's range.
//
// Tensors hold device pointers; input and out f16 or bf16, gamma and beta f32 or of the same dtype; any d >= 1; rows may be
// strided, the innermost dimension is dense. Arithmetic is float, rounded once (gpu/norm/layernorm.cuh says what it loses).
// Rows that begin at multiples of 16 bytes, with d a multiple of 8 and at most 16384, stay in registers; any others are read
// three times, element by element. Only enqueues a kernel on `stream`: no allocation, no synchronisation; can be captured.
// Throws InputError, with nothing enqueued, for what the CPU reference refuses and for f32 rows; CudaError if the launch
// fails.
//
// enable_pdl: may start before the previous kernel on the stream has ended, and waits for it before it reads anything.
// Compulsory bytes: 2 n d e and 2 d of gamma's elements (e = 2 bytes an element; n times num_heads); to fp8 n d (e + 1).
#pragma once

#include <cuda_runtime_api.h>

#include "core/kv_scales.hpp"
#include "core/tensor.hpp"

namespace flashladder::gpu {

// input, out [n, d] or [n, num_heads, d] (each head on its own); gamma, beta [d]. out may be input.
void layernorm(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out, float eps,
               cudaStream_t stream, bool enable_pdl = false);

// To fp8: out = y / scale, as rmsnorm_quant has it (gpu/norm/norm.hpp). input keeps its bits.
void layernorm_quant(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
                     const QuantScale& scale, float eps, cudaStream_t stream, bool enable_pdl = false);

}  // namespace flashladder::gpu
