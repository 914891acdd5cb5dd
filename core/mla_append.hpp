// Appending to a cache of latent rows is appending to a paged cache of one head, whose keys are ckv and whose values are kpe
// (another use of the two words than attention's: there a value is ckv, and a key is both).
#pragma once

#include <cstdint>
#include <span>

#include "core/kv_cache.hpp"
#include "core/mla_problem.hpp"
#include "core/op_checks.hpp"
#include "core/tensor.hpp"

namespace flashladder {

PagedKvCache as_kv_cache(const PagedMlaCache& cache);

// append_ckv [nnz, head_dim_ckv] and append_kpe [nnz, head_dim_kpe] against the cache, as check_append. head_dim_kpe must be
// at least 1.
void check_append_mla(const ConstTensor& append_ckv, const ConstTensor& append_kpe,
                      std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                      const PagedMlaCache& paged_mla_cache, const PagedKvTable& table, const MlaScales& scales = {});

}  // namespace flashladder
