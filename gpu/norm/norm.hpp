// RMSNorm on the GPU: y = x * rsqrt(mean(x^2) + eps) * weight over the innermost dimension d, as reference/norm.hpp has it,
// with its rules for zeros, infinities, NaN and squares that leave the range of float.
//
// Tensors hold device pointers; f16 or bf16, one dtype a call; any d >= 1; rows may be strided, the innermost dimension is
// dense. Arithmetic is float, rounded once. Rows that begin at multiples of 16 bytes, with d a multiple of 8 and at most
// 16384, stay in registers; any others are read twice. Only enqueues a kernel on `stream`: no allocation, no
// synchronisation; can be captured.
// Throws InputError, with nothing enqueued, for what the CPU reference refuses and for f32; CudaError if the launch fails.
//
// enable_pdl: may start before the previous kernel on the stream has ended (gpu/ptx/griddepcontrol.cuh). The weight may be
// read before the wait, so the previous kernel must not write it. All other tensors may be that kernel's output.
// Compulsory bytes: rmsnorm 2 n d e + d e, fused_add_rmsnorm 4 n d e + d e (e = 2 bytes an element; n times num_heads); to fp8
// n d (e + 1) + d e and n d (3 e + 1) + d e.
#pragma once

#include <cuda_runtime_api.h>

#include "core/kv_scales.hpp"
#include "core/tensor.hpp"

namespace flashladder::gpu {

// input, out [n, d] or [n, num_heads, d] (each head on its own); weight [d]. out may be input.
void rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps, cudaStream_t stream,
             bool enable_pdl = false);

// In place on input and residual [n, d], with t = input + residual in float:
//   residual = t, rounded;  input = rmsnorm(t) of the t that was *not* rounded (FlashInfer's rule)
void fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps,
                       cudaStream_t stream, bool enable_pdl = false);

// To fp8: out = norm / scale, divided in float, rounded once to nearest even and saturated; scale a number, or one in device
// memory that the kernel reads. input keeps its bits, and residual becomes the sum as above. Rows that don't stay in registers
// are read element by element.
void rmsnorm_quant(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, const QuantScale& scale, float eps,
                   cudaStream_t stream, bool enable_pdl = false);
void fused_add_rmsnorm_quant(const ConstTensor& input, const Tensor& residual, const ConstTensor& weight, const Tensor& out,
                             const QuantScale& scale, float eps, cudaStream_t stream, bool enable_pdl = false);

// rmsnorm and fused_add_rmsnorm with 1 + weight.
void gemma_rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps, cudaStream_t stream,
                   bool enable_pdl = false);
void gemma_fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps,
                             cudaStream_t stream, bool enable_pdl = false);

}  // namespace flashladder::gpu
