// RoPE on whole tensors, in place: each head of token i is rotated to the token's position (core/rope.hpp has the formula).
//
//   q [nnz, num_qo_heads, head_dim], k [nnz, num_kv_heads, head_dim]     one dtype (f32, f16 or bf16), dense along head_dim
// Only the first rotary_dim features of a head rotate; the others keep their bits. Arithmetic is float, rounded once.
// Positions are 0 .. 2^31 - 1. Angles are formed in double: an angle is off by 2^-52 of itself at most, which is less than
// a float's rounding up to a position of some 10^7 (theta 10000), and 5e-7 at the last one.
// Features, and entries of a cache, that are not finite spread to their pair as IEEE arithmetic has it, and no further.
// q and k are both written: they must not share memory (two slices of one tensor do not), nor with anything that is read.
// All throw InputError, before anything is written, for shapes, dtypes, strides, positions or numbers that break the rules.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/rope.hpp"
#include "core/tensor.hpp"

namespace flashladder::reference {

// pos_ids [nnz], >= 0. rotary_dim even, at most head_dim; 0 = head_dim. interleave: pairs (2 k, 2 k + 1), else neox pairs
// (k, k + rotary_dim / 2). Positions are divided by rope_scale; with llama31 those of slow pairs alone (core/rope.hpp).
void apply_rope_pos_ids_inplace(const Tensor& q, const Tensor& k, std::span<const std::int32_t> pos_ids,
                                std::int32_t rotary_dim = 0, bool interleave = false, float rope_scale = 1,
                                float rope_theta = 10000, const std::optional<Llama31Scaling>& llama31 = {});

// cos_sin_cache f32 [max_pos, rotary_dim]: row p has the cosines of position p's pairs, then their sines.
// positions [nnz], int32 or int64, 0 .. max_pos - 1.
void apply_rope_with_cos_sin_cache_inplace(std::span<const std::int32_t> positions, const Tensor& q, const Tensor& k,
                                           const ConstTensor& cos_sin_cache, bool is_neox = true);
void apply_rope_with_cos_sin_cache_inplace(std::span<const std::int64_t> positions, const Tensor& q, const Tensor& k,
                                           const ConstTensor& cos_sin_cache, bool is_neox = true);

// The cache above, for RoPE as apply_rope_pos_ids_inplace does it: [max_pos * rotary_dim].
std::vector<float> make_cos_sin_cache(std::int32_t max_pos, std::int32_t rotary_dim, float rope_scale = 1,
                                      float rope_theta = 10000, const std::optional<Llama31Scaling>& llama31 = {});

}  // namespace flashladder::reference
