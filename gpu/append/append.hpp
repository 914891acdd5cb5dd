// Writing new keys and values into the pages of a paged KV cache on the GPU, as reference/append.hpp has it, alone or with
// RoPE on the way; and the small arithmetic around it.
//
// Every pointer is the device's, in the cache (core/kv_cache.hpp: NHD or HND, one tensor or two, any page size) and in the
// spans, whose sizes are checked. All functions only enqueue a kernel on `stream`: no allocation, no synchronisation; they
// can be captured, and with batch index -1 for rows of padding one capture serves smaller batches. They throw InputError,
// with nothing enqueued, for shapes, dtypes and strides that the CPU reference refuses, and CudaError if a launch fails.
// What lies on the device cannot be checked, and wrong entries are undefined behaviour: batch indices (-1 .. requests - 1),
// positions (tokens that the page table already includes), the page table and its page ids, append_indptr. No two rows may
// go to one slot, and none to a page that two requests hold. (The CPU reference checks all of it.)
//
// enable_pdl: may start before the previous kernel on the stream has ended, and waits for it before it reads anything.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <optional>
#include <span>

#include "core/kv_cache.hpp"
#include "core/kv_scales.hpp"
#include "core/mla_problem.hpp"
#include "core/op_checks.hpp"
#include "core/rope.hpp"
#include "core/tensor.hpp"

namespace flashladder::gpu {

// Row i goes to position positions[i] of request batch_indices[i]. Rows of the cache's dtype (f32, f16, bf16 or fp8) are
// copied bit by bit. For an fp8 cache rows may also be f32, f16 or bf16: what is stored is x / scale, divided in float,
// rounded once to nearest even and saturated. scales: numbers, or one for each KV head in device memory; what those are can't
// be checked.
//   append_key [nnz, num_kv_heads, head_dim_qk], append_value [nnz, num_kv_heads, head_dim_vo]
//   batch_indices, positions [nnz]
// A row whose batch index is -1 goes nowhere; its key, value and position may hold anything.
// Compulsory bytes: nnz (num_kv_heads (head_dim_qk + head_dim_vo) (e + c) + 8), e bytes an element of rows, c of the cache.
void append_paged_kv_cache(const ConstTensor& append_key, const ConstTensor& append_value,
                           std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                           const PagedKvCache& paged_kv_cache, const PagedKvTable& table, cudaStream_t stream,
                           bool enable_pdl = false, const KvScales& scales = {});

// The same by slots: row i goes to entry slot_mapping[i] % page_size of page slot_mapping[i] / page_size. slot_mapping [nnz],
// int64; -1: the row is padding and goes nowhere. What the slots are can't be checked, like all that lies on the device. A
// pool of more than 2^31 - 1 slots is refused.
// Compulsory bytes: those above.
void append_paged_kv_cache(const ConstTensor& append_key, const ConstTensor& append_value,
                           std::span<const std::int64_t> slot_mapping, const PagedKvCache& paged_kv_cache,
                           cudaStream_t stream, bool enable_pdl = false, const KvScales& scales = {});

// The same for a cache of latent rows (core/mla_append.hpp): append_ckv [nnz, head_dim_ckv], append_kpe [nnz, head_dim_kpe].
// Compulsory bytes: nnz (2 (head_dim_ckv + head_dim_kpe) e + 8).
void append_paged_mla_kv_cache(const ConstTensor& append_ckv, const ConstTensor& append_kpe,
                               std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                               const PagedMlaCache& paged_mla_cache, const PagedKvTable& table, cudaStream_t stream,
                               bool enable_pdl = false, const MlaScales& scales = {});

// RoPE and append, for f16 and bf16: k is rotated to its position on its way into the page, and q [nnz, num_qo_heads,
// head_dim_qk] rotated in place; append_key itself keeps its bits. Equals apply_rope_*_inplace(q, append_key) and then
// append_paged_kv_cache, bit for bit; but for an fp8 cache k stays in float between the two and is rounded once. Rows with
// batch index -1 are not rotated either. (Arguments: gpu/rope/rope.hpp.)
// Compulsory bytes: those of the append, 4 nnz num_qo_heads rotary_dim, and 4 rotary_dim for each row of the cache used.
void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   bool is_neox, std::span<const std::int32_t> batch_indices,
                                                   std::span<const std::int32_t> positions,
                                                   const PagedKvCache& paged_kv_cache, const PagedKvTable& table,
                                                   cudaStream_t stream, bool enable_pdl = false,
                                                   const KvScales& scales = {});
void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta,
                                        std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                                        const PagedKvCache& paged_kv_cache, const PagedKvTable& table, cudaStream_t stream,
                                        bool enable_pdl = false, const std::optional<Llama31Scaling>& llama31 = {},
                                        const KvScales& scales = {});

// The same by slots: positions [nnz] are angles alone, and a row's place is slot_mapping [nnz]. Rows with slot -1 are padding.
void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   bool is_neox, std::span<const std::int32_t> positions,
                                                   std::span<const std::int64_t> slot_mapping,
                                                   const PagedKvCache& paged_kv_cache, cudaStream_t stream,
                                                   bool enable_pdl = false, const KvScales& scales = {});
void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta,
                                        std::span<const std::int32_t> positions, std::span<const std::int64_t> slot_mapping,
                                        const PagedKvCache& paged_kv_cache, cudaStream_t stream, bool enable_pdl = false,
                                        const std::optional<Llama31Scaling>& llama31 = {}, const KvScales& scales = {});

// Rows append_indptr[b] .. append_indptr[b + 1] - 1 are the *last* tokens of request b, whose length with them is
// seq_lens[b]; rows from append_indptr[batch] on (padding) get batch index -1, position 0.
//   append_indptr [batch + 1], seq_lens [batch]  ->  batch_indices, positions [nnz]
void get_batch_indices_positions(std::span<const std::int32_t> append_indptr, std::span<const std::int32_t> seq_lens,
                                 std::span<std::int32_t> batch_indices, std::span<std::int32_t> positions,
                                 cudaStream_t stream, bool enable_pdl = false);

// Tokens of each request, 0 for one without pages: kv_indptr [batch + 1], kv_last_page_len [batch] -> seq_lens [batch].
void get_seq_lens(std::span<const std::int32_t> kv_indptr, std::span<const std::int32_t> kv_last_page_len,
                  std::int32_t page_size, std::span<std::int32_t> seq_lens, cudaStream_t stream, bool enable_pdl = false);

}  // namespace flashladder::gpu
