// A page table on the device: the sizes of its arrays are checked, its entries cannot be.
#pragma once

#include "core/checks.hpp"
#include "core/page_table.hpp"
#include "gpu/append/append.hpp"

namespace flashladder::gpu {

inline void check_table(const PagedKvTable& table) {
  const auto batch = static_cast<std::int64_t>(table.paged_kv_last_page_len.size());
  check_span("paged_kv_last_page_len", table.paged_kv_last_page_len, batch);
  check_span("paged_kv_indptr", table.paged_kv_indptr, batch + 1);
  check_span("paged_kv_indices", table.paged_kv_indices, static_cast<std::int64_t>(table.paged_kv_indices.size()));
}

inline PageTable page_table(const PagedKvTable& table, std::int32_t page_size) {
  return {table.paged_kv_indptr.data(), table.paged_kv_indices.data(), table.paged_kv_last_page_len.data(), page_size,
          static_cast<std::int32_t>(table.paged_kv_last_page_len.size())};
}

}  // namespace flashladder::gpu
