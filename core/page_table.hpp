// Where token t of request r lives: the only file that divides by page_size.
//
// Request r owns the pages indices[indptr[r]] .. indices[indptr[r + 1] - 1], in token order. All are full but the last,
// which holds last_page_len[r] tokens. (FlashInfer's CSR page table; names are theirs.) A view: trivially copyable, all
// pointers host or all device. indices == nullptr means identity pages: a contiguous or ragged cache is page_size 1.
#pragma once

#include <cstdint>

#include "core/host_device.hpp"

namespace flashladder {

struct KvSlot {
  std::int64_t page;   // physical page id; 64 bits, because it is about to be multiplied by a stride
  std::int32_t entry;  // token within the page, 0 .. page_size - 1
  friend constexpr bool operator==(const KvSlot&, const KvSlot&) = default;
};

struct PageTable {
  const std::int32_t* indptr = nullptr;         // [num_requests + 1]      cumulative count of pages
  const std::int32_t* indices = nullptr;        // [indptr[num_requests]]  physical page ids, or nullptr: identity
  const std::int32_t* last_page_len = nullptr;  // [num_requests]          1 .. page_size; 0 for a request without pages
  std::int32_t page_size = 1;
  std::int32_t num_requests = 0;

  // Tokens of request r. A request without pages is empty whatever last_page_len says.
  FL_HD constexpr std::int32_t length(std::int32_t r) const {
    const std::int32_t pages = indptr[r + 1] - indptr[r];
    return pages == 0 ? 0 : (pages - 1) * page_size + last_page_len[r];
  }

  FL_HD constexpr KvSlot locate(std::int32_t r, std::int32_t token) const { return locate_from(indptr[r], token); }

  // The same for whoever knows already where the request's pages begin: first_page = indptr[r].
  FL_HD constexpr KvSlot locate_from(std::int32_t first_page, std::int32_t token) const {
    const std::int32_t logical = token / page_size, position = first_page + logical;
    return {indices ? indices[position] : position, token - logical * page_size};
  }
};

// Pages that `tokens` tokens need, and how many of them lie in the last one (0 for none).
FL_HD constexpr std::int32_t pages_for(std::int32_t tokens, std::int32_t page_size) {
  return tokens / page_size + (tokens % page_size != 0);
}
FL_HD constexpr std::int32_t last_page_len_for(std::int32_t tokens, std::int32_t page_size) {
  return tokens == 0 ? 0 : tokens - (pages_for(tokens, page_size) - 1) * page_size;
}

}  // namespace flashladder
