// LayerNorm: y = (x - mean) / sqrt(variance + eps) * gamma + beta over the innermost dimension d, mean and variance of the
// row itself (variance = mean of (x - mean)^2). (Ba, Kiros and Hinton, arXiv:1607.06450)
//
// Two passes, in double, rounded once to float and then into out's dtype: the mean, then the squares of the differences from
// it. Where the mean is more than 2 sqrt(d) standard deviations, all elements are within a factor of 3 of it, so that their
// sum is exact (24 bits of a float, log2(d) and 2 more, up to d = 2^26), and a row of equal elements leaves exactly zeros.
// Elsewhere it is off by (d / 8 + 9) 2^-53 of the mean of |x|, less than 5e-10 standard deviations for d = 65536.
//
// Dtypes (f32, f16 or bf16), rows, memory and refusals: as reference/norm.hpp; gamma and beta are f32 or of input's dtype.
// Any number is an input:
//   finite x     the formula holds, whatever sums and squares are: they neither overflow nor underflow
//   equal        a row of equal elements gives beta, with eps = 0 too
//   infinities   and NaN: the row has no mean, every element is NaN; other rows never see it
#pragma once

#include "core/kv_scales.hpp"
#include "core/tensor.hpp"

namespace flashladder::reference {

// input, out [n, d] or [n, num_heads, d] (each head on its own); gamma, beta [d]. out may be input.
void layernorm(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
               float eps = 1e-6f);

// To fp8: out = y / scale, as reference/norm.hpp's rmsnorm_quant has it. input keeps its bits.
void layernorm_quant(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
                     const QuantScale& scale, float eps = 1e-6f);

}  // namespace flashladder::reference
