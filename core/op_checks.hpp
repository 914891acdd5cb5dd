// What each operation beside the attention rungs asks of its tensors: one set of rules for the CPU references and the GPU.
// Nothing that a tensor points to is read, so that it may lie on a device; what is *in* the index arrays is for whoever can
// read them. Each function returns silently or throws an InputError. Shapes and meanings: reference/norm.hpp, rope_ops.hpp,
// append.hpp, merge_states.hpp.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>

#include "core/kv_cache.hpp"
#include "core/kv_scales.hpp"
#include "core/rope.hpp"
#include "core/tensor.hpp"

namespace flashladder {

// What is written lies apart from all else that the call reads or writes; where an operation works in place it may also be
// the input itself (share_memory and check_same_or_apart in core/checks.hpp).
void check_rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps);
void check_fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps);
// ... with an fp8 out, which is never the input itself. What a stored scale is, is not looked at.
void check_rmsnorm_quant(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, const QuantScale& scale,
                         float eps);
void check_fused_add_rmsnorm_quant(const ConstTensor& input, const Tensor& residual, const ConstTensor& weight,
                                   const Tensor& out, const QuantScale& scale, float eps);
void check_layernorm(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
                     float eps);
void check_layernorm_quant(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
                           const QuantScale& scale, float eps);

// [n, d] as [n, 1, d].
template <class Void>
BasicTensor<Void> with_heads(const BasicTensor<Void>& t) {
  if (t.rank == 3) return t;
  return {.data = t.data, .dtype = t.dtype, .rank = 3, .shape = {t.shape[0], 1, t.shape[1]},
          .strides = {t.strides[0], 0, t.strides[1]}};
}

// RoPE in place: q and k of one token each entry of positions, one head_dim and dtype.
void check_rope(const Tensor& q, const Tensor& k, const char* positions_name, std::span<const std::int32_t> positions);
void check_rope(const Tensor& q, const Tensor& k, const char* positions_name, std::span<const std::int64_t> positions);
// What rotary_dim (0: all of head_dim) comes to; also checks the numbers that make the frequencies.
std::int32_t checked_rotary_dim(std::int32_t rotary_dim, std::int64_t head_dim, float rope_scale, float rope_theta,
                                const std::optional<Llama31Scaling>& llama31);
void check_rotary_dim(const char* argument, std::int64_t rotary_dim);
void check_frequencies(float rope_scale, float rope_theta, const std::optional<Llama31Scaling>& llama31);
// written: q, and k or the pools.
struct Written {
  const char* name;
  Tensor tensor;
};
void check_cos_sin_cache(const ConstTensor& cos_sin_cache, std::int64_t head_dim, std::initializer_list<Written> written);

// A batch's page table, three arrays on one device (core/page_table.hpp).
struct PagedKvTable {
  std::span<const std::int32_t> paged_kv_indptr;         // [batch + 1]
  std::span<const std::int32_t> paged_kv_indices;        // [paged_kv_indptr[batch]]; on a device it may be longer
  std::span<const std::int32_t> paged_kv_last_page_len;  // [batch]
};
// append_key and append_value against the cache; both index arrays must have an entry for each row. scales: of a caller that
// quantises rows for an fp8 cache; without, rows and cache have one dtype, which is not fp8.
void check_append(const ConstTensor& append_key, const ConstTensor& append_value,
                  std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                  const PagedKvCache& paged_kv_cache, const PagedKvTable& table, const KvScales* scales = nullptr);
// ... by slots, of which there must be one for each row.
void check_append(const ConstTensor& append_key, const ConstTensor& append_value, std::span<const std::int64_t> slot_mapping,
                  const PagedKvCache& paged_kv_cache, const KvScales* scales = nullptr);
// ... and q, which is rotated in place.
void check_rope_append(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                       std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                       const PagedKvCache& paged_kv_cache, const PagedKvTable& table, const KvScales* scales = nullptr);
void check_rope_append(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                       std::span<const std::int32_t> positions, std::span<const std::int64_t> slot_mapping,
                       const PagedKvCache& paged_kv_cache, const KvScales* scales = nullptr);
Tensor k_pool(const PagedKvCache& cache);  // [num_pages, page_size, num_kv_heads, head_dim_qk], whatever the layout
Tensor v_pool(const PagedKvCache& cache);  // [num_pages, page_size, num_kv_heads, head_dim_vo]

void check_merge_state(const ConstTensor& v_a, const ConstTensor& s_a, const ConstTensor& v_b, const ConstTensor& s_b,
                       const Tensor& v_out, const Tensor& s_out);
void check_merge_state_in_place(const Tensor& v, const Tensor& s, const ConstTensor& v_other, const ConstTensor& s_other,
                                std::span<const std::uint8_t> mask);
void check_merge_states(const ConstTensor& v, const ConstTensor& s, const Tensor& v_out, const Tensor& s_out);
void check_variable_length_merge_states(const ConstTensor& v, const ConstTensor& s, std::span<const std::int32_t> indptr,
                                        const Tensor& v_out, const Tensor& s_out);

}  // namespace flashladder
