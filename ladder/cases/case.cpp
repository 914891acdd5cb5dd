#include "ladder/cases/case.hpp"

namespace flashladder::ladder {

AttentionProblem Case::problem() const {
  return {.params = spec.params,
          .q = q.view(),
          .kv = spec.one_cache_tensor() ? paged_kv_cache(kv_cache.view(), spec.kv_layout)
                                        : paged_kv_cache(k_cache.view(), v_cache.view(), spec.kv_layout),
          .qo_indptr = qo_indptr,
          .paged_kv_indptr = paged_kv_indptr,
          .paged_kv_indices = paged_kv_indices,
          .paged_kv_last_page_len = paged_kv_last_page_len,
          .custom_mask = custom_mask,
          .sinks = sinks};
}

}  // namespace flashladder::ladder
