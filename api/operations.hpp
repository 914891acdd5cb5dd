// The operations around attention, on the CPU or the GPU: merging states, appending to a paged cache, norms, RoPE.
//
// All tensors and spans of a call lie on on.device. What each computes, to the rounding, is said in reference/, and what
// numbers that are not finite give.
// What a call writes must not share memory with anything else that it reads or writes. An output may be an input itself
// (pointer, shape, strides, dtype) where that is said. Slices of one tensor that share no element are apart, such as q and
// k of a fused QKV tensor. On the CPU calls allocate nothing, but where one is larger than all before it on its thread.
// On the CPU every argument is checked, index arrays too. On the GPU a call only enqueues a kernel on on.stream, can be
// captured, and checks shapes, dtypes and strides; what lies on the device can't be looked at: indptr, positions, batch
// indices, slots, page tables, masks, scales. Dtypes: f32, f16, bf16; norm and RoPE on the GPU f16 and bf16. InputError says
// what is wrong, before anything is written.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "api/placement.hpp"
#include "core/kv_cache.hpp"
#include "core/kv_scales.hpp"
#include "core/mla_problem.hpp"
#include "core/rope.hpp"
#include "core/tensor.hpp"

namespace flashladder::api {

// --- Merging attention over disjoint sets of keys (reference/merge_states.hpp) -------------------------------------------
// A state is (v, s): normalised output v [n, num_heads, head_dim], and lse_log2 s [n, num_heads], f32, base 2 (an attention's
// lse_natural is no s). Merged: s = log2 sum_i 2^s_i, v = sum_i 2^(s_i - s) v_i, where s_i = -inf counts for nothing.
// v_out and s_out may be a state's own v and s.
void merge_state(const ConstTensor& v_a, const ConstTensor& s_a, const ConstTensor& v_b, const ConstTensor& s_b,
                 const Tensor& v_out, const Tensor& s_out, const On& on = {});
// mask [n] or empty: rows whose byte is 0 are left untouched.
void merge_state_in_place(const Tensor& v, const Tensor& s, const ConstTensor& v_other, const ConstTensor& s_other,
                          std::span<const std::uint8_t> mask = {}, const On& on = {});
// v [n, num_states, num_heads, head_dim], s [n, num_states, num_heads]  ->  v_out [n, num_heads, head_dim], s_out
void merge_states(const ConstTensor& v, const ConstTensor& s, const Tensor& v_out, const Tensor& s_out, const On& on = {});
// v [sum, num_heads, head_dim], s [sum, num_heads]; row r of the result merges states indptr[r] .. indptr[r + 1] - 1.
void variable_length_merge_states(const ConstTensor& v, const ConstTensor& s, std::span<const std::int32_t> indptr,
                                  const Tensor& v_out, const Tensor& s_out, const On& on = {});

// --- The paged cache (reference/append.hpp) ------------------------------------------------------------------------------
// Row i goes to position positions[i] of request batch_indices[i]; -1: nowhere. The table already includes the new tokens.
// A page that two requests hold is read only: on the CPU a row for it is refused (on the GPU it can't be seen).
//   append_key, append_value [nnz, num_kv_heads, head_dim]; batch_indices, positions [nnz]
// An fp8 cache also takes rows of f32, f16 or bf16: what is stored is then x / scale, rounded to nearest even and saturated.
void append_paged_kv_cache(const ConstTensor& append_key, const ConstTensor& append_value,
                           std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                           const PagedKvCache& paged_kv_cache, std::span<const std::int32_t> paged_kv_indptr,
                           std::span<const std::int32_t> paged_kv_indices,
                           std::span<const std::int32_t> paged_kv_last_page_len, const On& on = {},
                           const KvScales& scales = {});
// By slots, as vLLM has them: slot_mapping [nnz], page * page_size + entry of each row; -1: nowhere. Without a table nobody
// sees which pages are shared: that none of them is written is the caller's word.
void append_paged_kv_cache(const ConstTensor& append_key, const ConstTensor& append_value,
                           std::span<const std::int64_t> slot_mapping, const PagedKvCache& paged_kv_cache,
                           const On& on = {}, const KvScales& scales = {});
// Latent rows (core/mla_problem.hpp): append_ckv [nnz, head_dim_ckv], append_kpe [nnz, head_dim_kpe]. An fp8 cache
// takes wide rows as above; of scales it needs k, that of ckv, and kpe.
void append_paged_mla_kv_cache(const ConstTensor& append_ckv, const ConstTensor& append_kpe,
                               std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                               const PagedMlaCache& paged_mla_cache, std::span<const std::int32_t> paged_kv_indptr,
                               std::span<const std::int32_t> paged_kv_indices,
                               std::span<const std::int32_t> paged_kv_last_page_len, const On& on = {},
                               const MlaScales& scales = {});
// append_indptr [batch + 1], seq_lens [batch] (lengths with the new tokens)  ->  batch_indices, positions [nnz]
void get_batch_indices_positions(std::span<const std::int32_t> append_indptr, std::span<const std::int32_t> seq_lens,
                                 std::span<std::int32_t> batch_indices, std::span<std::int32_t> positions,
                                 const On& on = {});
// kv_indptr [batch + 1], kv_last_page_len [batch]  ->  seq_lens [batch]
void get_seq_lens(std::span<const std::int32_t> kv_indptr, std::span<const std::int32_t> kv_last_page_len,
                  std::int32_t page_size, std::span<std::int32_t> seq_lens, const On& on = {});

// --- RMSNorm and LayerNorm (reference/norm.hpp, layernorm.hpp) -----------------------------------------------------------
// input / sqrt(mean(input^2) + eps) * weight: input, out [n, d] or [n, num_heads, d], weight [d]. out may be input.
void rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps = 1e-6f, const On& on = {});
// In place on input and residual [n, d]: residual += input, input = rmsnorm(that sum, before it was rounded).
void fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps = 1e-6f,
                       const On& on = {});
// To fp8: out = norm / scale, rounded to nearest even and saturated; scale is a number, or {.stored = p}, one that lies on
// on.device. input keeps its bits.
void rmsnorm_quant(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, const QuantScale& scale = {},
                   float eps = 1e-6f, const On& on = {});
void fused_add_rmsnorm_quant(const ConstTensor& input, const Tensor& residual, const ConstTensor& weight, const Tensor& out,
                             const QuantScale& scale = {}, float eps = 1e-6f, const On& on = {});
// rmsnorm and fused_add_rmsnorm with 1 + weight in weight's place, as Gemma's models have it.
void gemma_rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps = 1e-6f,
                   const On& on = {});
void gemma_fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps = 1e-6f,
                             const On& on = {});
// (input - mean) / sqrt(variance + eps) * gamma + beta. gamma, beta [d]: f32, or of input's dtype. out may be input.
void layernorm(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
               float eps = 1e-6f, const On& on = {});
// That to fp8, over a scale, as rmsnorm_quant has it.
void layernorm_quant(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
                     const QuantScale& scale = {}, float eps = 1e-6f, const On& on = {});

// --- RoPE in place (reference/rope_ops.hpp) ------------------------------------------------------------------------------
struct RopeOptions {
  std::int32_t rotary_dim = 0;  // features that rotate, even; 0: all of head_dim
  bool interleave = false;      // pairs (2 k, 2 k + 1); else (k, k + rotary_dim / 2)
  float rope_scale = 1, rope_theta = 10000;
  std::optional<Llama31Scaling> llama31 = {};  // core/rope.hpp: rope_scale is for slow pairs alone
};
// Llama 3.1: rope_scale 8, rope_theta 500000, low and high factors 1 and 4, an old context of 8192 tokens.
inline constexpr RopeOptions llama31_rope{.rope_scale = 8, .rope_theta = 500000, .llama31 = Llama31Scaling{}};
// q [nnz, num_qo_heads, head_dim], k [nnz, num_kv_heads, head_dim]; pos_ids, positions [nnz]
void apply_rope_pos_ids_inplace(const Tensor& q, const Tensor& k, std::span<const std::int32_t> pos_ids,
                                const RopeOptions& options = {}, const On& on = {});
// The same with other defaults. Options without llama31 are refused: apply_rope_pos_ids_inplace is for them.
void apply_llama31_rope_pos_ids_inplace(const Tensor& q, const Tensor& k, std::span<const std::int32_t> pos_ids,
                                        const RopeOptions& options = llama31_rope, const On& on = {});
// cos_sin_cache f32 [max_pos, rotary_dim]: cosines of a position's pairs, then their sines. Positions may be int64, as vLLM has
// them, and are read as they lie, with the bits that int32 gives. They are below 2^31 as well: on the GPU the upper half of
// each is not read.
void apply_rope_with_cos_sin_cache_inplace(std::span<const std::int32_t> positions, const Tensor& q, const Tensor& k,
                                           const ConstTensor& cos_sin_cache, bool is_neox = true, const On& on = {});
void apply_rope_with_cos_sin_cache_inplace(std::span<const std::int64_t> positions, const Tensor& q, const Tensor& k,
                                           const ConstTensor& cos_sin_cache, bool is_neox = true, const On& on = {});
// Such a cache on the host, with the angles of apply_rope_pos_ids_inplace: [max_pos * rotary_dim].
std::vector<float> make_cos_sin_cache(std::int32_t max_pos, std::int32_t rotary_dim, float rope_scale = 1,
                                      float rope_theta = 10000, const std::optional<Llama31Scaling>& llama31 = {});

// --- RoPE and append at once (reference/rope_append.hpp) -----------------------------------------------------------------
// q is rotated in place, k on its way into its page; append_key keeps its bits. What apply_rope_*_inplace on q and a copy of
// append_key and then append_paged_kv_cache give. A row with batch index -1 goes nowhere, and its q stays as it is.
//   q [nnz, num_qo_heads, head_dim_qk]; positions are both the token's angle and its place in the request
void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                                        const PagedKvCache& paged_kv_cache, std::span<const std::int32_t> paged_kv_indptr,
                                        std::span<const std::int32_t> paged_kv_indices,
                                        std::span<const std::int32_t> paged_kv_last_page_len,
                                        const RopeOptions& options = {}, const On& on = {}, const KvScales& scales = {});
void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   std::span<const std::int32_t> batch_indices,
                                                   std::span<const std::int32_t> positions,
                                                   const PagedKvCache& paged_kv_cache,
                                                   std::span<const std::int32_t> paged_kv_indptr,
                                                   std::span<const std::int32_t> paged_kv_indices,
                                                   std::span<const std::int32_t> paged_kv_last_page_len,
                                                   bool is_neox = true, const On& on = {}, const KvScales& scales = {});
// By slots: positions [nnz] are angles alone, slot_mapping [nnz] is where rows go; a row with slot -1 goes nowhere.
void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        std::span<const std::int32_t> positions, std::span<const std::int64_t> slot_mapping,
                                        const PagedKvCache& paged_kv_cache, const RopeOptions& options = {},
                                        const On& on = {}, const KvScales& scales = {});
void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   std::span<const std::int32_t> positions,
                                                   std::span<const std::int64_t> slot_mapping,
                                                   const PagedKvCache& paged_kv_cache, bool is_neox = true,
                                                   const On& on = {}, const KvScales& scales = {});

}  // namespace flashladder::api
