// RoPE and append at once: q is rotated in place, k on its way into its page, v is copied beside it.
//
// The same bits as apply_rope_*_inplace on q and a copy of append_key and then append_paged_kv_cache: append_key keeps its
// bits, and a row with batch index -1 goes nowhere, its position may be anything, and its q stays as it is.
// For an fp8 cache k is rotated in float, divided by its scale and rounded once; v as append does it (reference/append.hpp).
//   q [nnz, num_qo_heads, head_dim_qk], append_key [nnz, num_kv_heads, head_dim_qk], append_value [.., head_dim_vo]
//   positions [nnz]: the token's angle and its place in the request
// Rules and refusals: reference/rope_ops.hpp, reference/append.hpp. q must not share memory with anything else.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "core/kv_cache.hpp"
#include "core/kv_scales.hpp"
#include "core/op_checks.hpp"
#include "core/rope.hpp"
#include "core/tensor.hpp"

namespace flashladder::reference {

void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta,
                                        std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                                        const PagedKvCache& paged_kv_cache, const PagedKvTable& table,
                                        const std::optional<Llama31Scaling>& llama31 = {}, const KvScales& scales = {});
void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   bool is_neox, std::span<const std::int32_t> batch_indices,
                                                   std::span<const std::int32_t> positions,
                                                   const PagedKvCache& paged_kv_cache, const PagedKvTable& table,
                                                   const KvScales& scales = {});

// The same by slots (reference/append.hpp): positions are angles alone, and slot_mapping [nnz] is where rows go. A row with
// slot -1 goes nowhere.
void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta,
                                        std::span<const std::int32_t> positions, std::span<const std::int64_t> slot_mapping,
                                        const PagedKvCache& paged_kv_cache,
                                        const std::optional<Llama31Scaling>& llama31 = {}, const KvScales& scales = {});
void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   bool is_neox, std::span<const std::int32_t> positions,
                                                   std::span<const std::int64_t> slot_mapping,
                                                   const PagedKvCache& paged_kv_cache, const KvScales& scales = {});

}  // namespace flashladder::reference
