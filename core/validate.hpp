// Every input is checked here, on the host, before any rung runs. Each function returns silently or throws an InputError
// that names the argument, its value, the request and the rule. FlashInfer leaves most of these unchecked.
#pragma once

#include <cstdint>
#include <span>

#include "core/attention_problem.hpp"

namespace flashladder {

// Heads, dims, scale, window, cap, RoPE numbers: sizes positive, num_qo_heads divisible by num_kv_heads, sm_scale finite
// and > 0, window_left >= -1, soft cap finite and >= 0, and so on; options that contradict each other are refused.
void validate(const AttentionParams& params);

// The lengths of a CSR page table: indptr starts at 0, never decreases, has batch + 1 entries; every last_page_len is 1 ..
// page_size (0 for a request without pages); no request longer than 2^31 - 1 tokens. Allocates only to refuse.
void validate_page_counts(std::span<const std::int32_t> paged_kv_indptr,
                          std::span<const std::int32_t> paged_kv_last_page_len, std::int32_t page_size);
// ... and indices has indptr[batch] entries.
void validate_page_table(std::span<const std::int32_t> paged_kv_indptr, std::span<const std::int32_t> paged_kv_indices,
                         std::span<const std::int32_t> paged_kv_last_page_len, std::int32_t page_size);

// Reads every page id and checks it against the pool. O(pages), so a choice of the caller where plans are made often.
void validate_page_ids(std::span<const std::int32_t> paged_kv_indptr, std::span<const std::int32_t> paged_kv_indices,
                       std::int32_t num_pages);

// The same of a block table, of block_entries = batch * max_pages entries: every seq_lens entry is 0 or more and needs at
// most max_pages pages; fewer than 2^31 entries.
void validate_block_table(std::int64_t block_entries, std::span<const std::int32_t> seq_lens, std::int32_t page_size);
// Only the entries that a request's tokens use are read.
void validate_block_ids(std::span<const std::int32_t> block_tables, std::span<const std::int32_t> seq_lens,
                        std::int32_t page_size, std::int32_t num_pages);

// Index pointers of queries, and of a ragged cache's tokens: they start at 0, never decrease, have batch + 1 entries.
void validate_qo_indptr(std::span<const std::int32_t> qo_indptr, std::int64_t batch, const char* argument = "qo_indptr");
void validate_kv_indptr(std::span<const std::int32_t> kv_indptr, std::int64_t batch);

// q or o: [nnz_qo, num_qo_heads, head_dim], dense along head_dim; the strides of tokens and heads are free.
struct RowsRule {
  const char* name;       // what messages call it, and the numbers that it must have
  std::int64_t nnz_qo;
  const char* nnz_qo_is;
  std::int32_t num_qo_heads, head_dim;
  const char* head_dim_is;
};
void validate_rows(const ConstTensor& t, const RowsRule& rule);
// ... and no two rows share memory.
void validate_written_rows(const ConstTensor& t, const RowsRule& rule);

// The numbers finite and greater than 0, and not given beside scales per head, of which there are num_kv_heads or none.
void validate(const KvScales& scales, std::int32_t num_kv_heads);
// Scales per head that lie on the host: each one too.
void validate_on_host(const KvScales& scales);

// One lse of `wanted` entries, or none. `is` says what that number is.
void validate_lse(const AttentionOutput& output, std::int64_t wanted, const char* is);

// All of the above, and that tensors, dtypes, strides, scales, mask and sinks agree with the params. Deep: page ids too.
void validate(const AttentionProblem& problem);
// The output's shapes and strides too.
void validate(const AttentionProblem& problem, const AttentionOutput& output);

}  // namespace flashladder
