// The one function of the ladder, as data: every rung computes AttentionOutput from AttentionProblem.
//
//   o[i, h] = sum_j softmax_j(logit(q[i, h] . k[j, h / group])) v[j, h / group]       over the keys j that query i sees
//   lse_log2[i, h] = log2 sum_j exp(logit)                                            base 2, of the scaled logits
//
// A batch of ragged requests: request b's queries are rows qo_indptr[b] .. qo_indptr[b + 1] - 1 of q and o, its keys and
// values lie in the pages of the page table, which is given as page lists (paged_kv_...) or as a block table (block_tables
// and seq_lens), never as both. Everything is borrowed. Spans know their lengths, so validate() can tell a wrong one;
// kernels get raw pointers from them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/attention_params.hpp"
#include "core/kv_cache.hpp"
#include "core/kv_scales.hpp"
#include "core/page_table.hpp"
#include "core/range.hpp"
#include "core/softmax_state.hpp"
#include "core/tensor.hpp"

namespace flashladder {

struct AttentionProblem {
  AttentionParams params;
  Tensor q;                                              // [nnz_qo, num_qo_heads, head_dim_qk]
  PagedKvCache kv;
  std::span<const std::int32_t> qo_indptr;               // [batch + 1]
  std::span<const std::int32_t> paged_kv_indptr;         // [batch + 1]  cumulative count of pages
  std::span<const std::int32_t> paged_kv_indices;        // [paged_kv_indptr[batch]]
  std::span<const std::int32_t> paged_kv_last_page_len;  // [batch]
  std::span<const std::uint8_t> custom_mask;             // [sum_b qo_len(b) * kv_len(b)], 1 = visible; MaskMode::custom only
  std::span<const float> sinks;                          // [num_qo_heads]; only with params.sinks
  std::span<const std::int32_t> block_tables{};          // [batch, max_pages]  beyond a request's length anything
  std::span<const std::int32_t> seq_lens{};              // [batch]             tokens
  KvScales scales{};                                     // what a stored k and v stand for

  bool identity_pages = false;  // the n-th page of the lists is page n, and paged_kv_indices is empty: a ragged cache

  bool has_block_table() const { return !seq_lens.empty() || !block_tables.empty(); }
  std::int32_t batch() const {
    return static_cast<std::int32_t>(has_block_table() ? seq_lens.size() : paged_kv_last_page_len.size());
  }
  Range queries(std::int32_t b) const {
    const auto at = static_cast<std::size_t>(b);
    return {qo_indptr[at], qo_indptr[at + 1]};
  }
  std::int32_t qo_len(std::int32_t b) const { return queries(b).size(); }
  std::int32_t kv_len(std::int32_t b) const { return page_table().length(b); }
  std::int32_t max_pages() const {  // entries of a row of block_tables
    return seq_lens.empty() ? 0 : static_cast<std::int32_t>(block_tables.size() / seq_lens.size());
  }
  PageTable page_table() const {
    if (has_block_table()) return block_table(block_tables.data(), seq_lens.data(), max_pages(), kv.page_size, batch());
    return {paged_kv_indptr.data(), identity_pages ? nullptr : paged_kv_indices.data(), paged_kv_last_page_len.data(),
            kv.page_size, batch()};
  }
};

// Wanted are o, and one lse or none. Partials inside of a plan, and all states that are merged, are base 2 whichever it is:
// a final writer multiplies what it writes by lse_factor().
struct AttentionOutput {
  Tensor o;                         // [nnz_qo, num_qo_heads, head_dim_vo], f32 in the C rungs
  std::span<float> lse_log2{};      // [nnz_qo * num_qo_heads], or empty: not wanted
  std::span<float> lse_natural{};   // the same as a natural logarithm, in the place of lse_log2

  std::span<float> lse() const { return lse_natural.empty() ? lse_log2 : lse_natural; }
  const char* lse_name() const { return lse_natural.empty() ? "lse_log2" : "lse_natural"; }
  float lse_factor() const { return lse_natural.empty() ? 1.0f : lse_natural_from_log2(1.0f); }
};

// Where each request's bytes begin in custom_mask: [batch + 1].
std::vector<std::int64_t> mask_offsets(const AttentionProblem& problem);
void mask_offsets(const AttentionProblem& problem, std::vector<std::int64_t>& offsets);  // into memory that is kept

}  // namespace flashladder
