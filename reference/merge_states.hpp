// Merging attention results over disjoint sets of keys: partials of split-K, levels of a cascade, ranks.
//
// A state is (v, s): v the normalised output over some keys, s the LSE of their logits, f32, base 2 (lse_log2).
//   s = log2 sum_i 2^s_i,      v = sum_i 2^(s_i - s) v_i
// A state with s = -inf has seen no key: it is the identity, and its v is not read. If all are such, v = 0 and s = -inf.
// States merge in slot order; all arithmetic is float, rounded once into v. (FlashInfer's cascade operations, with any
// number of heads and any head_dim.)
//
// v tensors are f32, f16 or bf16, each its own; s tensors are f32. Rows may be strided, the innermost dimension is dense.
// Outputs may be the very tensors of an input where shapes are equal (merge_state), else they must not overlap inputs.
// All throw InputError, before anything is written, when a shape, dtype, stride or indptr breaks these rules.
#pragma once

#include <cstdint>
#include <span>

#include "core/tensor.hpp"

namespace flashladder::reference {

// v [n, num_heads, head_dim], s [n, num_heads].
void merge_state(const Tensor& v_a, const Tensor& s_a, const Tensor& v_b, const Tensor& s_b, const Tensor& v_out,
                 const Tensor& s_out);

// (v, s) takes (v_other, s_other) in. mask [n] or empty: rows whose byte is 0 are left untouched.
void merge_state_in_place(const Tensor& v, const Tensor& s, const Tensor& v_other, const Tensor& s_other,
                          std::span<const std::uint8_t> mask = {});

// v [n, num_states, num_heads, head_dim], s [n, num_states, num_heads]
//   -> v_out [n, num_heads, head_dim], s_out [n, num_heads]
void merge_states(const Tensor& v, const Tensor& s, const Tensor& v_out, const Tensor& s_out);

// v [sum, num_heads, head_dim], s [sum, num_heads]; row r merges states indptr[r] .. indptr[r + 1] - 1 into v_out
// [n, num_heads, head_dim], s_out [n, num_heads]. indptr [n + 1] ends at sum. No states: 0 and -inf; one: its copy.
void variable_length_merge_states(const Tensor& v, const Tensor& s, std::span<const std::int32_t> indptr,
                                  const Tensor& v_out, const Tensor& s_out);

}  // namespace flashladder::reference
