// RMSNorm: y = x * weight / sqrt(mean(x^2) + eps) over the innermost dimension d. (Zhang and Sennrich, arXiv:1910.07467)
// The gemma_ functions multiply by 1 + weight in weight's place. LayerNorm is in reference/layernorm.hpp.
//
// Arithmetic is double, rounded once to float and then into the tensor's dtype. All tensors of a call have one dtype (f32,
// f16 or bf16); rows may be strided, the innermost dimension is dense. What is written must not share memory with what is
// read, but for an output that is the input itself. Throws InputError, before anything is written, for shapes, dtypes,
// strides or memory that break these rules and for an eps that is negative or not finite.
//
// Any number is an input:
//   finite x     the formula holds whatever the squares are: they neither overflow nor underflow
//   zeros        a row of zeros gives zeros, with eps = 0 too
//   infinities   the mean is infinite: finite elements of that row give 0, infinite ones NaN (inf / inf)
//   NaN          every element of that row is NaN; other rows never see it
#pragma once

#include "core/kv_scales.hpp"
#include "core/tensor.hpp"

namespace flashladder::reference {

// input, out [n, d] or [n, num_heads, d] (each head on its own); weight [d]. out may be input.
void rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps = 1e-6f);

// In place on input and residual [n, d], with t = input + residual in float:
//   residual = t, rounded;  input = rmsnorm(t) of the t that was *not* rounded (FlashInfer's rule)
// A t that overflows float is infinite.
void fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps = 1e-6f);

// The same to fp8: out = y / scale, divided in float, rounded to nearest even and saturated. input keeps its bits.
// (FlashInfer's rmsnorm_quant and fused_add_rmsnorm_quant.) A NaN becomes NaN, an infinite y the largest number. InputError
// for a scale that is not finite and greater than 0.
void rmsnorm_quant(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, const QuantScale& scale,
                   float eps = 1e-6f);
void fused_add_rmsnorm_quant(const ConstTensor& input, const Tensor& residual, const ConstTensor& weight, const Tensor& out,
                             const QuantScale& scale, float eps = 1e-6f);

// rmsnorm and fused_add_rmsnorm with 1 + weight, as Gemma's models store it.
void gemma_rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps = 1e-6f);
void gemma_fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps = 1e-6f);

}  // namespace flashladder::reference
