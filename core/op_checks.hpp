// What each operation beside the attention rungs asks of its tensors: one set of rules for the CPU references and the GPU.
// Nothing that a tensor points to is read, so that it may lie on a device; what is *in* the index arrays is for whoever can
// read them. Each function returns silently or throws an InputError. Shapes and meanings: reference/norm.hpp, rope_ops.hpp,
// append.hpp, merge_states.hpp.
#pragma once

#include <cstdint>
#include <span>

#include "core/kv_cache.hpp"
#include "core/tensor.hpp"

namespace flashladder {

void check_rmsnorm(const Tensor& input, const Tensor& weight, const Tensor& out, float eps);
void check_fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const Tensor& weight, float eps);

// [n, d] as [n, 1, d].
Tensor with_heads(const Tensor& t);

// q and k for RoPE: nnz tokens, one head_dim and dtype.
void check_rope_heads(const Tensor& q, const Tensor& k, std::int64_t nnz);
// What rotary_dim (0: all of head_dim) comes to; also checks the numbers that make the frequencies.
std::int32_t checked_rotary_dim(std::int32_t rotary_dim, std::int64_t head_dim, float rope_scale, float rope_theta);
void check_rotary_dim(const char* argument, std::int64_t rotary_dim);
void check_frequencies(float rope_scale, float rope_theta);
void check_cos_sin_cache(const Tensor& cos_sin_cache, std::int64_t head_dim);

// append_key and append_value against the cache; both index arrays must have an entry for each row.
void check_append(const Tensor& append_key, const Tensor& append_value, std::span<const std::int32_t> batch_indices,
                  std::span<const std::int32_t> positions, const PagedKvCache& paged_kv_cache);

void check_merge_state(const Tensor& v_a, const Tensor& s_a, const Tensor& v_b, const Tensor& s_b, const Tensor& v_out,
                       const Tensor& s_out);
void check_merge_state_in_place(const Tensor& v, const Tensor& s, const Tensor& v_other, const Tensor& s_other,
                                std::span<const std::uint8_t> mask);
void check_merge_states(const Tensor& v, const Tensor& s, const Tensor& v_out, const Tensor& s_out);
void check_variable_length_merge_states(const Tensor& v, const Tensor& s, const Tensor& v_out, const Tensor& s_out);

}  // namespace flashladder
