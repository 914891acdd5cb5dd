/* FlashLadder in C: the operations around attention. Merging, the paged cache, norms, RoPE, and the page pool. The header
   flashladder.h, which has what they share and the attention, includes this one. */
#ifndef FLASHLADDER_OPERATIONS_H
#define FLASHLADDER_OPERATIONS_H

#include "capi/flashladder.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- Merging: v [n, num_heads, head_dim], s (lse_log2) [n, num_heads] f32: s = log2 sum 2^s_i, v = sum 2^(s_i - s) v_i */
fl_status fl_merge_state(const fl_tensor* v_a, const fl_tensor* s_a, const fl_tensor* v_b, const fl_tensor* s_b,
                         const fl_tensor* v_out, const fl_tensor* s_out, const fl_on* on);
/* mask: a byte for each row, 0 leaves it untouched; or NULL */
fl_status fl_merge_state_in_place(const fl_tensor* v, const fl_tensor* s, const fl_tensor* v_other, const fl_tensor* s_other,
                                  const uint8_t* mask, const fl_on* on);
/* v [n, num_states, num_heads, head_dim], s [n, num_states, num_heads] */
fl_status fl_merge_states(const fl_tensor* v, const fl_tensor* s, const fl_tensor* v_out, const fl_tensor* s_out,
                          const fl_on* on);
/* v [sum, num_heads, head_dim], s [sum, num_heads]; row r of the result merges states indptr[r] .. indptr[r + 1] - 1 */
fl_status fl_variable_length_merge_states(const fl_tensor* v, const fl_tensor* s, const int32_t* indptr /* rows + 1 */,
                                          const fl_tensor* v_out, const fl_tensor* s_out, const fl_on* on);

/* --- The paged cache ---------------------------------------------------------------------------------------------- */
typedef struct fl_page_lists {
  size_t size;
  const int32_t *indptr, *indices, *last_page_len; /* [batch + 1], [num_indices], [batch] */
  int64_t num_indices;
  int32_t batch, reserved;
} fl_page_lists;

/* append_key, append_value [nnz, num_kv_heads, head_dim]; batch_indices, positions [nnz]: row i goes to position positions[i]
   of request batch_indices[i]; -1: nowhere. pages: with the new tokens in them. An fp8 cache also takes rows of FL_F32, FL_F16
   or FL_BF16: each number over the scale that kv says. */
fl_status fl_append_paged_kv_cache(const fl_tensor* append_key, const fl_tensor* append_value, const int32_t* batch_indices,
                                   const int32_t* positions, const fl_kv_cache* kv, const fl_page_lists* pages,
                                   const fl_on* on);
/* Latent rows: append_ckv [nnz, head_dim_ckv], append_kpe [nnz, head_dim_kpe]; an fp8 cache takes wide ones as above. */
fl_status fl_append_paged_mla_kv_cache(const fl_tensor* append_ckv, const fl_tensor* append_kpe,
                                       const int32_t* batch_indices, const int32_t* positions, const fl_mla_cache* cache,
                                       const fl_page_lists* pages, const fl_on* on);
/* slot_mapping [rows of append_key]: row i goes to entry slot % page_size of page slot / page_size; -1: nowhere. */
fl_status fl_append_paged_kv_cache_by_slots(const fl_tensor* append_key, const fl_tensor* append_value,
                                            const int64_t* slot_mapping, const fl_kv_cache* kv, const fl_on* on);
/* append_indptr [batch + 1], seq_lens [batch] -> batch_indices, positions [nnz] */
fl_status fl_get_batch_indices_positions(const int32_t* append_indptr, const int32_t* seq_lens, int32_t batch,
                                         int32_t* batch_indices, int32_t* positions, int64_t nnz, const fl_on* on);
fl_status fl_get_seq_lens(const int32_t* kv_indptr, const int32_t* kv_last_page_len, int32_t batch, int32_t page_size,
                          int32_t* seq_lens, const fl_on* on);
/* Reads host copies of page ids and checks them against the pool: what no call can look at on the GPU. */
fl_status fl_validate_page_ids(const fl_page_lists* pages, int32_t num_pages);
fl_status fl_validate_block_ids(const int32_t* block_tables, const int32_t* seq_lens, int32_t batch, int32_t max_pages,
                                int32_t page_size, int32_t num_pages);

/* --- Norms and RoPE ----------------------------------------------------------------------------------------------- */
/* input / sqrt(mean(input^2) + eps) * weight: input, out [n, d] or [n, num_heads, d], weight [d]. out may be input */
fl_status fl_rmsnorm(const fl_tensor* input, const fl_tensor* weight, const fl_tensor* out, float eps, const fl_on* on);
/* in place, [n, d]: residual += input, input = rmsnorm(that sum, before it was rounded) */
fl_status fl_fused_add_rmsnorm(const fl_tensor* input, const fl_tensor* residual, const fl_tensor* weight, float eps,
                               const fl_on* on);

/* out: FL_F8_E4M3 or FL_F8_E5M2, the norm over a scale: a number (0: 1), or *stored_scale, which lies where the tensors lie.
   input keeps its bits. */
fl_status fl_rmsnorm_quant(const fl_tensor* input, const fl_tensor* weight, const fl_tensor* out, float scale,
                           const float* stored_scale, float eps, const fl_on* on);
fl_status fl_fused_add_rmsnorm_quant(const fl_tensor* input, const fl_tensor* residual, const fl_tensor* weight,
                                     const fl_tensor* out, float scale, const float* stored_scale, float eps,
                                     const fl_on* on);

/* with 1 + weight in weight's place */
fl_status fl_gemma_rmsnorm(const fl_tensor* input, const fl_tensor* weight, const fl_tensor* out, float eps,
                           const fl_on* on);
fl_status fl_gemma_fused_add_rmsnorm(const fl_tensor* input, const fl_tensor* residual, const fl_tensor* weight, float eps,
                                     const fl_on* on);
/* (input - mean) / sqrt(variance + eps) * gamma + beta; gamma, beta [d]: f32, or of input's dtype */
fl_status fl_layernorm(const fl_tensor* input, const fl_tensor* gamma, const fl_tensor* beta, const fl_tensor* out,
                       float eps, const fl_on* on);
/* that over a scale, as fl_rmsnorm_quant has it; out: FL_F8_E4M3 or FL_F8_E5M2 */
fl_status fl_layernorm_quant(const fl_tensor* input, const fl_tensor* gamma, const fl_tensor* beta, const fl_tensor* out,
                             float scale, const float* stored_scale, float eps, const fl_on* on);

typedef struct fl_rope { /* NULL: the defaults */
  size_t size;
  int32_t rotary_dim, interleave;           /* rotary_dim 0: all of head_dim */
  float rope_scale, rope_theta;             /* 0: 1 and 10000 */
  float low_freq_factor, high_freq_factor;  /* of Llama 3.1's scaling; 0: 1 and 4 */
  int32_t old_context_len, reserved;        /* 0: no such scaling; Llama 3.1 has 8192, with rope_scale 8, rope_theta 500000 */
} fl_rope;

/* q [nnz, num_qo_heads, head_dim] and k [nnz, num_kv_heads, head_dim], in place; pos_ids, positions [nnz]. cos_sin_cache: f32
   [max_pos, rotary_dim]; fl_make_cos_sin_cache fills one on the host. */
fl_status fl_apply_rope_pos_ids_inplace(const fl_tensor* q, const fl_tensor* k, const int32_t* pos_ids, const fl_rope* rope,
                                        const fl_on* on);
fl_status fl_apply_rope_with_cos_sin_cache_inplace(const fl_tensor* q, const fl_tensor* k, const int32_t* positions,
                                                   const fl_tensor* cos_sin_cache, int32_t is_neox, const fl_on* on);
/* with positions of 64 bits, which are below 2^31 too: on the GPU the upper half of each is not read */
fl_status fl_apply_rope_with_cos_sin_cache_inplace_int64(const fl_tensor* q, const fl_tensor* k, const int64_t* positions,
                                                         const fl_tensor* cos_sin_cache, int32_t is_neox, const fl_on* on);
fl_status fl_make_cos_sin_cache(int32_t max_pos, int32_t rotary_dim, float rope_scale, float rope_theta, float* out,
                                int64_t size);
/* The same with all that fl_rope says of angles. rotary_dim must be said; one table serves both values of interleave. */
fl_status fl_make_rope_cos_sin_cache(int32_t max_pos, const fl_rope* rope, float* out, int64_t size);
/* q in place, k on its way into its page */
fl_status fl_rope_pos_ids_append_paged_kv_cache(const fl_tensor* q, const fl_tensor* append_key,
                                                const fl_tensor* append_value, const int32_t* batch_indices,
                                                const int32_t* positions, const fl_kv_cache* kv, const fl_page_lists* pages,
                                                const fl_rope* rope, const fl_on* on);
fl_status fl_rope_with_cos_sin_cache_append_paged_kv_cache(const fl_tensor* q, const fl_tensor* append_key,
                                                           const fl_tensor* append_value, const fl_tensor* cos_sin_cache,
                                                           const int32_t* batch_indices, const int32_t* positions,
                                                           const fl_kv_cache* kv, const fl_page_lists* pages,
                                                           int32_t is_neox, const fl_on* on);
/* by slots: positions are angles alone */
fl_status fl_rope_pos_ids_append_paged_kv_cache_by_slots(const fl_tensor* q, const fl_tensor* append_key,
                                                         const fl_tensor* append_value, const int32_t* positions,
                                                         const int64_t* slot_mapping, const fl_kv_cache* kv,
                                                         const fl_rope* rope, const fl_on* on);
fl_status fl_rope_with_cos_sin_cache_append_paged_kv_cache_by_slots(const fl_tensor* q, const fl_tensor* append_key,
                                                                    const fl_tensor* append_value,
                                                                    const fl_tensor* cos_sin_cache,
                                                                    const int32_t* positions, const int64_t* slot_mapping,
                                                                    const fl_kv_cache* kv, int32_t is_neox, const fl_on* on);

/* --- The page pool: which pages a request has. Numbers only; keys and values are the caller's --------------------- */
typedef struct fl_page_pool fl_page_pool;
typedef struct fl_page_copy { /* entries 0 .. entries - 1 of page source to page destination; entries 0: nothing to copy */
  size_t size;
  int32_t source, destination, entries, reserved;
} fl_page_copy;

fl_status fl_page_pool_create(int32_t num_pages, int32_t page_size, const uint64_t* shuffle_seed /* or NULL */,
                              fl_page_pool** out);
void fl_page_pool_destroy(fl_page_pool* pool);
fl_status fl_page_pool_add_request(fl_page_pool* pool, int32_t* request);
fl_status fl_page_pool_append(fl_page_pool* pool, int32_t request, int32_t tokens);
/* *forked: a new request whose first tokens are that one's first tokens, on the same pages as far as these are full. Where the
   last one is not, the caller copies what *copy says. */
fl_status fl_page_pool_fork(fl_page_pool* pool, int32_t request, int32_t tokens, int32_t* forked, fl_page_copy* copy);
fl_status fl_page_pool_remove(fl_page_pool* pool, int32_t request);
fl_status fl_page_pool_length(const fl_page_pool* pool, int32_t request, int32_t* tokens);
/* how many requests hold the page */
fl_status fl_page_pool_uses(const fl_page_pool* pool, int32_t page, int32_t* requests);
fl_status fl_page_pool_free_pages(const fl_page_pool* pool, int32_t* pages);
/* The live requests, ascending; and the page lists of some of them, in this order, or of all (NULL). The arrays live until
   the next call of the same function on the pool. */
fl_status fl_page_pool_requests(fl_page_pool* pool, const int32_t** requests, int32_t* count);
fl_status fl_page_pool_table(fl_page_pool* pool, const int32_t* requests, int32_t count, fl_page_lists* out);

#ifdef __cplusplus
}
#endif

#endif
