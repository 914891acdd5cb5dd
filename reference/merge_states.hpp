// Merging attention results over disjoint sets of keys: partials of split-K, levels of a cascade, ranks.
//
// A state is (v, s): v the normalised output over some keys, s the LSE of their logits, f32, base 2 (lse_log2).
//   s = log2 sum_i 2^s_i,      v = sum_i 2^(s_i - s) v_i
// States merge in slot order; all arithmetic is float, rounded once into v. (FlashInfer's cascade operations, with any
// number of heads and any head_dim.)
//
// Any s is an input, and each (row, head) is on its own:
//   -inf   the state has seen no key: it is the identity, and its v is never looked at. If all are such, v = 0 and s = -inf.
//   +inf   it outweighs every finite state; several in one call weigh alike: v is their mean, s = +inf
//   NaN    v and s of that (row, head) are NaN
// A v that is not finite spreads as IEEE arithmetic has it, 0 * inf included.
//
// v tensors are f32, f16 or bf16, each its own; s tensors are f32. Rows may be strided, the innermost dimension is dense.
// Results must not share memory with each other or with what is read, but merge_state and merge_state_in_place may be given
// a state's own tensor (pointer, shape, strides, dtype) as the result.
// All throw InputError, before anything is written, when a shape, dtype, stride, indptr or memory breaks these rules.
#pragma once

#include <cstdint>
#include <span>

#include "core/tensor.hpp"

namespace flashladder::reference {

// v [n, num_heads, head_dim], s [n, num_heads].
void merge_state(const ConstTensor& v_a, const ConstTensor& s_a, const ConstTensor& v_b, const ConstTensor& s_b,
                 const Tensor& v_out, const Tensor& s_out);

// (v, s) takes (v_other, s_other) in. mask [n] or empty: rows whose byte is 0 are left untouched.
void merge_state_in_place(const Tensor& v, const Tensor& s, const ConstTensor& v_other, const ConstTensor& s_other,
                          std::span<const std::uint8_t> mask = {});

// v [n, num_states, num_heads, head_dim], s [n, num_states, num_heads]
//   -> v_out [n, num_heads, head_dim], s_out [n, num_heads]
// lse_factor: s_out is multiplied by it. With ln 2 it is a natural logarithm, an output of attention and no state.
void merge_states(const ConstTensor& v, const ConstTensor& s, const Tensor& v_out, const Tensor& s_out,
                  float lse_factor = 1);

// v [sum, num_heads, head_dim], s [sum, num_heads]; row r merges states indptr[r] .. indptr[r + 1] - 1 into v_out
// [n, num_heads, head_dim], s_out [n, num_heads]. indptr [n + 1] ends at sum. No states: 0 and -inf; one: its copy.
void variable_length_merge_states(const ConstTensor& v, const ConstTensor& s, std::span<const std::int32_t> indptr,
                                  const Tensor& v_out, const Tensor& s_out);

}  // namespace flashladder::reference
