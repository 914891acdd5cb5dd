// RMSNorm: y = x * rsqrt(mean(x^2) + eps) * weight over the innermost dimension d. (Zhang and Sennrich, arXiv:1910.07467)
//
// Arithmetic is float and rounded once into the tensor's dtype. All tensors of a call have one dtype (f32, f16 or bf16);
// rows may be strided, the innermost dimension is dense. Throws InputError, before anything is written, for shapes, dtypes
// or strides that break these rules and for an eps that is negative or not finite.
#pragma once

#include "core/tensor.hpp"

namespace flashladder::reference {

// input, out [n, d] or [n, num_heads, d] (each head on its own); weight [d]. out may be input.
void rmsnorm(const Tensor& input, const Tensor& weight, const Tensor& out, float eps = 1e-6f);

// In place on input and residual [n, d], with t = input + residual in float:
//   residual = t, rounded;  input = rmsnorm(t) of the t that was *not* rounded (FlashInfer's rule)
void fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const Tensor& weight, float eps = 1e-6f);

}  // namespace flashladder::reference
