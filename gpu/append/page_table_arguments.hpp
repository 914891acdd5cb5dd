// A page table on the device: the sizes of its arrays are checked, its entries cannot be.
#pragma once

#include "core/checks.hpp"
#include "gpu/append/append.hpp"

namespace flashladder::gpu {

inline void check_table(const PagedKvTable& table) {
  const auto batch = static_cast<std::int64_t>(table.paged_kv_last_page_len.size());
  check_span("paged_kv_last_page_len", table.paged_kv_last_page_len, batch);
  check_span("paged_kv_indptr", table.paged_kv_indptr, batch + 1);
  check_span("paged_kv_indices", table.paged_kv_indices, static_cast<std::int64_t>(table.paged_kv_indices.size()));
}

}  // namespace flashladder::gpu
