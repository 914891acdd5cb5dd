// Multi-head latent attention as data: what mla_params.hpp defines, over a paged cache of latent rows.
//
// A batch of ragged requests as in AttentionProblem (attention_problem.hpp): the same index arrays, the same rules of masks
// and of empty rows, the same outputs. The cache is two tensors with one page table, ckv [pages, page_size, head_dim_ckv] and
// kpe [pages, page_size, head_dim_kpe], each dense along its features; they may be slices of one tensor [pages, page_size,
// head_dim_ckv + head_dim_kpe]. Everything is borrowed.
#pragma once

#include <cstdint>
#include <span>

#include "core/attention_problem.hpp"
#include "core/kv_scales.hpp"
#include "core/mla_params.hpp"
#include "core/page_table.hpp"
#include "core/range.hpp"
#include "core/tensor.hpp"

namespace flashladder {

struct PagedMlaCache {
  void* ckv = nullptr;
  void* kpe = nullptr;  // may be null where head_dim_kpe is 0
  DType dtype = DType::f32;
  MlaStrides ckv_strides, kpe_strides;
  std::int32_t num_pages = 0, page_size = 1;
  std::int32_t head_dim_ckv = 0, head_dim_kpe = 0;
};

// The cache over two tensors. Throws InputError if ranks, shapes, dtypes or strides contradict each other.
PagedMlaCache paged_mla_cache(const Tensor& ckv, const Tensor& kpe);
// The cache over one tensor [pages, page_size, head_dim_ckv + head_dim_kpe].
PagedMlaCache paged_mla_cache(const Tensor& ckv_kpe, std::int32_t head_dim_ckv);

struct MlaProblem {
  MlaParams params;
  Tensor q_nope;                                         // [nnz_qo, num_heads, head_dim_ckv]
  Tensor q_pe;                                           // [nnz_qo, num_heads, head_dim_kpe]
  PagedMlaCache cache;
  std::span<const std::int32_t> qo_indptr;               // [batch + 1]
  std::span<const std::int32_t> paged_kv_indptr;         // [batch + 1]  cumulative count of pages
  std::span<const std::int32_t> paged_kv_indices;        // [paged_kv_indptr[batch]]
  std::span<const std::int32_t> paged_kv_last_page_len;  // [batch]
  std::span<const std::int32_t> block_tables{};          // [batch, max_pages]  in the place of the three, beyond a
  std::span<const std::int32_t> seq_lens{};              // [batch]             request's length anything
  MlaScales scales{};                                    // what a stored ckv and kpe stand for

  // All that is said of lengths, heads, pages and rows, as attention's; without data: q is null, and so is the cache. Its
  // scale of K is that of ckv: who loads q_pe multiplies it with pe_factor().
  AttentionProblem frame() const {
    AttentionProblem frame;
    frame.params = params.attention();
    frame.kv = {.dtype = cache.dtype, .k_strides = {}, .v_strides = {}, .num_pages = cache.num_pages,
                .page_size = cache.page_size, .num_kv_heads = 1, .head_dim_qk = params.head_dim_qk(),
                .head_dim_vo = params.head_dim_ckv};
    frame.qo_indptr = qo_indptr;
    frame.paged_kv_indptr = paged_kv_indptr;
    frame.paged_kv_indices = paged_kv_indices;
    frame.paged_kv_last_page_len = paged_kv_last_page_len;
    frame.block_tables = block_tables;
    frame.seq_lens = seq_lens;
    frame.scales = {.k = scales.k, .v = scales.v};
    return frame;
  }
  double pe_factor() const { return double{scales.kpe} / scales.k; }
  std::int32_t batch() const { return frame().batch(); }
  std::int32_t qo_len(std::int32_t b) const { return frame().qo_len(b); }
  std::int32_t kv_len(std::int32_t b) const { return frame().kv_len(b); }
  PageTable page_table() const { return frame().page_table(); }
};

// Finite and greater than 0, and so are the products that logits are multiplied with.
void validate(const MlaScales& scales, float sm_scale);
// Sizes positive (head_dim_kpe 0 or more), sm_scale given, finite and > 0, mask none or causal.
void validate(const MlaParams& params);
// ... and that tensors, dtypes, strides and index arrays agree with the params. Deep: page ids too.
void validate(const MlaProblem& problem);
// The output's shapes and strides too: o [nnz_qo, num_heads, head_dim_ckv] f32, lse [nnz_qo * num_heads].
void validate(const MlaProblem& problem, const AttentionOutput& output);

}  // namespace flashladder
