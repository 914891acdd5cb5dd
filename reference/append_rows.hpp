// What append and RoPE + append have in common: their rows, checked and located before the first is written.
#pragma once

#include <cstdint>
#include <span>

#include "core/kv_cache.hpp"
#include "core/op_checks.hpp"
#include "core/page_table.hpp"
#include "core/tensor.hpp"

namespace flashladder::reference {

struct AppendedRow {
  std::int64_t row = 0;  // of append_key and append_value
  std::int32_t request = 0, position = 0;
  KvSlot slot;
  std::int32_t table_entry = 0;  // the index of the slot's page in the table's indices
};

// The page table of the arrays, which are checked, page ids too.
PageTable checked_table(const PagedKvTable& table, const PagedKvCache& cache);

// Where every row goes, in order; rows to skip are left out. Throws InputError for a request or a position that the table
// does not have, two rows for one slot, and a row for a page that the table holds in another place too: it is shared, and so
// read only. Valid until the thread asks again.
std::span<const AppendedRow> checked_rows(const PageTable& table, std::span<const std::int32_t> batch_indices,
                                          std::span<const std::int32_t> positions);

// The same by slots, page * page_size + entry; -1: a row to skip. Throws InputError for a slot that the cache does not have
// and for two rows of one slot.
std::span<const AppendedRow> checked_rows(std::span<const std::int64_t> slot_mapping, const PagedKvCache& cache);

// The scales of K, or of V.
struct PoolScales {
  float number = 1;
  std::span<const float> per_head{};
  float of(std::int64_t head) const { return per_head.empty() ? number : per_head[static_cast<std::size_t>(head)]; }
};
inline PoolScales of_k(const KvScales& s) { return {s.k, s.k_per_head}; }
inline PoolScales of_v(const KvScales& s) { return {s.v, s.v_per_head}; }

// values[0 .. n) / scale to a pool of fp8 or wider elements, from `offset` on. They are overwritten.
void store_scaled(std::span<float> values, float scale, const Tensor& pool, std::int64_t offset);

// All heads of rows [nnz, num_kv_heads, head_dim] to a pool [num_pages, page_size, num_kv_heads, head_dim], features from
// first_feature on: copied, or, where the dtypes differ, quantised.
void copy_row(const ConstTensor& rows, const AppendedRow& to, const Tensor& pool, const PoolScales& scales,
              std::int64_t first_feature = 0);

// The head's first element in the pool, or in the rows.
inline std::int64_t pool_offset(const Tensor& pool, const KvSlot& slot, std::int64_t head) {
  return slot.page * pool.strides[0] + slot.entry * pool.strides[1] + head * pool.strides[2];
}
template <class Void>
std::int64_t head_offset(const BasicTensor<Void>& rows, std::int64_t row, std::int64_t head) {
  return row * rows.strides[0] + head * rows.strides[1];
}

}  // namespace flashladder::reference
