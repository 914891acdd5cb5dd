// Writing new latent rows into the pages of their cache. (FlashInfer's append_paged_mla_kv_cache.)
#pragma once

#include <cstdint>
#include <span>

#include "core/mla_problem.hpp"
#include "core/tensor.hpp"

namespace flashladder::reference {

// As append_paged_kv_cache (reference/append.hpp): row i goes to position positions[i] of request batch_indices[i], -1:
// nowhere; bits are copied; the page table already includes the new tokens; a call that throws has written nothing.
//   append_ckv [nnz, head_dim_ckv], append_kpe [nnz, head_dim_kpe]; batch_indices, positions [nnz]
void append_paged_mla_kv_cache(const ConstTensor& append_ckv, const ConstTensor& append_kpe,
                               std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                               const PagedMlaCache& paged_mla_cache, std::span<const std::int32_t> paged_kv_indptr,
                               std::span<const std::int32_t> paged_kv_indices,
                               std::span<const std::int32_t> paged_kv_last_page_len, const MlaScales& scales = {});

}  // namespace flashladder::reference
