// Where token t of request r lives: the only file that divides by page_size.
//
// Request r's pages are some consecutive entries of `indices`, in token order. Where they begin, and how many tokens they
// hold, is said in one of two ways:
//   page lists   (CSR: FlashInfer's paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len) request r owns the entries
//                indptr[r] .. indptr[r + 1] - 1; all its pages are full but the last, which holds last_page_len[r] tokens
//   block table  (dense: block_tables [num_requests, max_pages] and seq_lens, as FlashInfer's trtllm entry points, vLLM and
//                FlashAttention take them) request r's entries begin at r * max_pages, and it has seq_lens[r] tokens; what a
//                row holds beyond them is never looked at
// A view: trivially copyable, all pointers host or all device. indices == nullptr means identity pages (entry n is page n):
// a contiguous or ragged cache is page_size 1, a padded one [num_requests, max_len] a block table with max_pages = max_len.
#pragma once

#include <cstdint>

#include "core/host_device.hpp"

namespace flashladder {

struct KvSlot {
  std::int64_t page;   // physical page id; 64 bits, because it is about to be multiplied by a stride
  std::int32_t entry;  // token within the page, 0 .. page_size - 1
  friend constexpr bool operator==(const KvSlot&, const KvSlot&) = default;
};

// Page ids one after the other, for whoever knows where a request's begin.
struct PageList {
  const std::int32_t* indices = nullptr;  // physical page ids, or null: identity, position n of the list is page n
  std::int32_t page_size = 1;
  std::int32_t num_pages = 0;             // of the pool, where it is known

  FL_HD constexpr KvSlot locate_from(std::int32_t first_page, std::int32_t token) const {
    const std::int32_t logical = token / page_size, position = first_page + logical;
    return {indices ? indices[position] : position, token - logical * page_size};
  }
};

struct PageTable {
  const std::int32_t* indptr = nullptr;         // [num_requests + 1]      cumulative count of pages; null: a block table
  const std::int32_t* indices = nullptr;        // [num_entries()]         physical page ids, or null: identity
  const std::int32_t* last_page_len = nullptr;  // [num_requests]          1 .. page_size; 0 for a request without pages
  std::int32_t page_size = 1;
  std::int32_t num_requests = 0;
  const std::int32_t* seq_lens = nullptr;       // [num_requests]          tokens; of a block table only
  std::int32_t max_pages = 0;                   // entries of a block table's row; num_requests * max_pages < 2^31

  FL_HD constexpr bool is_block_table() const { return indptr == nullptr; }

  // Where request r's pages begin in indices.
  FL_HD constexpr std::int32_t first_page(std::int32_t r) const { return is_block_table() ? r * max_pages : indptr[r]; }

  // Tokens of request r. In page lists a request without pages is empty whatever last_page_len says.
  FL_HD constexpr std::int32_t length(std::int32_t r) const {
    if (is_block_table()) return seq_lens[r];
    const std::int32_t pages = indptr[r + 1] - indptr[r];
    return pages == 0 ? 0 : (pages - 1) * page_size + last_page_len[r];
  }

  // Entries of indices, the unused ones of a block table too.
  FL_HD constexpr std::int32_t num_entries() const { return first_page(num_requests); }

  FL_HD constexpr KvSlot locate(std::int32_t r, std::int32_t token) const { return locate_from(first_page(r), token); }

  FL_HD constexpr KvSlot locate_from(std::int32_t first_page, std::int32_t token) const {
    return PageList{indices, page_size}.locate_from(first_page, token);
  }
};

// block_tables [num_requests, max_pages], or null: identity; seq_lens [num_requests].
FL_HD constexpr PageTable block_table(const std::int32_t* block_tables, const std::int32_t* seq_lens, std::int32_t max_pages,
                                      std::int32_t page_size, std::int32_t num_requests) {
  return {nullptr, block_tables, nullptr, page_size, num_requests, seq_lens, max_pages};
}

// Pages that `tokens` tokens need, and how many of them lie in the last one (0 for none).
FL_HD constexpr std::int32_t pages_for(std::int32_t tokens, std::int32_t page_size) {
  return tokens / page_size + (tokens % page_size != 0);
}
FL_HD constexpr std::int32_t last_page_len_for(std::int32_t tokens, std::int32_t page_size) {
  return tokens == 0 ? 0 : tokens - (pages_for(tokens, page_size) - 1) * page_size;
}

}  // namespace flashladder
