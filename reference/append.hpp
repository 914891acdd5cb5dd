// Writing new keys and values into the pages of a paged KV cache, and the small arithmetic around it. (FlashInfer's page
// operations; where it leaves a bad argument unchecked, we refuse.)
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/kv_cache.hpp"
#include "core/kv_scales.hpp"
#include "core/tensor.hpp"

namespace flashladder::reference {

// Row i goes to position positions[i] of request batch_indices[i]. Rows of the cache's dtype are copied bit by bit, those of
// NaNs too. For an fp8 cache rows may also be f32, f16 or bf16: what is stored is then x / scale, divided in float, rounded
// once to nearest even and saturated, with the scales that attention is given (core/kv_scales.hpp).
//   append_key [nnz, num_kv_heads, head_dim_qk], append_value [nnz, num_kv_heads, head_dim_vo]
//   batch_indices, positions [nnz]
// The page table must already include the new tokens. A row whose batch index is -1 is skipped and not read.
// Throws InputError, and has then written nothing, for shapes and dtypes that are not the cache's, scales that are not finite
// and greater than 0 or that a copy has no use for, an invalid page table or page id, a request or position that the table
// does not have, two rows for one slot, a row for a page that another request holds too (a shared page is read only), and
// pools that share memory with each other or with anything that is read.
void append_paged_kv_cache(const ConstTensor& append_key, const ConstTensor& append_value,
                           std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                           const PagedKvCache& paged_kv_cache, std::span<const std::int32_t> paged_kv_indptr,
                           std::span<const std::int32_t> paged_kv_indices,
                           std::span<const std::int32_t> paged_kv_last_page_len, const KvScales& scales = {});

// The same for whoever knows the slots themselves: row i goes to entry slot_mapping[i] % page_size of page slot_mapping[i] /
// page_size (vLLM's slot_mapping). slot_mapping [nnz]; a row whose slot is -1, padding, is skipped and not read.
// Throws InputError, and has then written nothing, as above, and for a slot that the cache does not have. Without a page
// table nobody can see which page is shared: that none is written is the caller's word.
void append_paged_kv_cache(const ConstTensor& append_key, const ConstTensor& append_value,
                           std::span<const std::int64_t> slot_mapping, const PagedKvCache& paged_kv_cache,
                           const KvScales& scales = {});

// The two arrays above for a ragged batch: rows append_indptr[b] .. append_indptr[b + 1] - 1 are the *last* tokens of
// request b, whose length with them is seq_lens[b]. Rows from append_indptr[batch] on (padding): batch index -1, position 0.
// batch_indices, positions [nnz]. Throws InputError for a bad append_indptr [batch + 1], more than nnz rows, or more rows
// than the request is long.
void get_batch_indices_positions(std::span<const std::int32_t> append_indptr, std::span<const std::int32_t> seq_lens,
                                 std::span<std::int32_t> batch_indices, std::span<std::int32_t> positions);
struct BatchIndicesPositions {
  std::vector<std::int32_t> batch_indices, positions;  // [nnz] each
};
BatchIndicesPositions get_batch_indices_positions(std::span<const std::int32_t> append_indptr,
                                                  std::span<const std::int32_t> seq_lens, std::int32_t nnz);

// Tokens of each request, seq_lens [batch]. One without pages has 0, whatever its kv_last_page_len says (as
// PageTable::length; FlashInfer's function of this name returns the kv_last_page_len then). Throws InputError unless the
// arrays make a page table.
void get_seq_lens(std::span<const std::int32_t> kv_indptr, std::span<const std::int32_t> kv_last_page_len,
                  std::int32_t page_size, std::span<std::int32_t> seq_lens);
std::vector<std::int32_t> get_seq_lens(std::span<const std::int32_t> kv_indptr,
                                       std::span<const std::int32_t> kv_last_page_len, std::int32_t page_size);

}  // namespace flashladder::reference
