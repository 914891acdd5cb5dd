#include "reference/mla/append.hpp"

#include "core/mla_append.hpp"
#include "reference/append_rows.hpp"

namespace flashladder::reference {

void append_paged_mla_kv_cache(const ConstTensor& append_ckv, const ConstTensor& append_kpe,
                               std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                               const PagedMlaCache& paged_mla_cache, std::span<const std::int32_t> paged_kv_indptr,
                               std::span<const std::int32_t> paged_kv_indices,
                               std::span<const std::int32_t> paged_kv_last_page_len, const MlaScales& scales) {
  const PagedKvTable arrays{paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len};
  check_append_mla(append_ckv, append_kpe, batch_indices, positions, paged_mla_cache, arrays, scales);
  const PagedKvCache cache = as_kv_cache(paged_mla_cache);
  const Tensor ckv = k_pool(cache), kpe = v_pool(cache);
  for (const AppendedRow& row : checked_rows(checked_table(arrays, cache), batch_indices, positions)) {
    copy_row(with_heads(append_ckv), row, ckv, {scales.k});
    copy_row(with_heads(append_kpe), row, kpe, {scales.kpe});
  }
}

}  // namespace flashladder::reference
