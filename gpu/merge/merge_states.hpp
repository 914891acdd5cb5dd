// Merging attention results over disjoint sets of keys on the GPU, as reference/merge_states.hpp has it:
//   s = log2 sum_i 2^s_i,      v = sum_i 2^(s_i - s) v_i          s is an LSE, f32, base 2 (lse_log2)
// A state with s = -inf has seen no key: it is the identity, and its v may hold anything. If all are such, v = 0, s = -inf.
// The rules for s = +inf and NaN are those of reference/merge_states.hpp.
//
// Tensors hold device pointers; v f32, f16 or bf16, each its own (v_a and v_b alike), s f32; any number of heads, any
// head_dim; rows may be strided, the innermost dimension is dense. Arithmetic is float, rounded once into v; states merge in
// slot order, many of them in runs whose results merge in order: same inputs, same bits. Results must not share memory with
// each other or with what is read, but merge_state and merge_state_in_place may be given a state's own tensor as the result.
// Only enqueues a kernel on `stream`; can be captured. Throws InputError, with nothing enqueued, for what the CPU reference
// refuses (but for what lies on the device: mask, indptr); CudaError if the launch fails.
// enable_pdl: may start before the previous kernel on the stream has ended, and waits for it before it reads anything.
// Compulsory bytes: every v and s read once, every v_out and s_out written once.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

#include "core/tensor.hpp"

namespace flashladder::gpu {

// v [n, num_heads, head_dim], s [n, num_heads].
void merge_state(const ConstTensor& v_a, const ConstTensor& s_a, const ConstTensor& v_b, const ConstTensor& s_b,
                 const Tensor& v_out, const Tensor& s_out, cudaStream_t stream, bool enable_pdl = false);

// (v, s) takes (v_other, s_other) in. mask [n], device, or empty: rows whose byte is 0 are left untouched.
void merge_state_in_place(const Tensor& v, const Tensor& s, const ConstTensor& v_other, const ConstTensor& s_other,
                          std::span<const std::uint8_t> mask, cudaStream_t stream, bool enable_pdl = false);

// v [n, num_states, num_heads, head_dim], s [n, num_states, num_heads]
//   -> v_out [n, num_heads, head_dim], s_out [n, num_heads], which is multiplied by lse_factor
// num_rows: not null: a number on the device, and only so many rows, the first ones, are merged; the others of v_out and s_out
// are left untouched. In a graph that is read in every replay.
void merge_states(const ConstTensor& v, const ConstTensor& s, const Tensor& v_out, const Tensor& s_out,
                  cudaStream_t stream, bool enable_pdl = false, float lse_factor = 1,
                  const std::int32_t* num_rows = nullptr);

// v [sum, num_heads, head_dim], s [sum, num_heads]; row r merges states indptr[r] .. indptr[r + 1] - 1 into v_out
// [n, num_heads, head_dim], s_out [n, num_heads]. indptr [n + 1], device, ends at sum or before. No states: 0 and -inf.
void variable_length_merge_states(const ConstTensor& v, const ConstTensor& s, std::span<const std::int32_t> indptr,
                                  const Tensor& v_out, const Tensor& s_out, cudaStream_t stream, bool enable_pdl = false);

}  // namespace flashladder::gpu
