#include "ladder/cases/case.hpp"

namespace flashladder::ladder {

namespace {

void set_scale(std::span<const float> given, float& number, std::span<const float>& per_head) {
  if (given.size() == 1) {
    number = given[0];
  } else {
    per_head = given;
  }
}

}  // namespace

AttentionProblem Case::problem() const {
  AttentionProblem problem;
  problem.params = spec.params;
  problem.q = q.view();
  problem.kv = spec.one_cache_tensor() ? paged_kv_cache(kv_cache.view(), spec.kv_layout)
                                       : paged_kv_cache(k_cache.view(), v_cache.view(), spec.kv_layout);
  problem.qo_indptr = qo_indptr;
  problem.custom_mask = custom_mask;
  problem.sinks = sinks;
  set_scale(k_scale, problem.scales.k, problem.scales.k_per_head);
  set_scale(v_scale, problem.scales.v, problem.scales.v_per_head);
  if (spec.block_table && spec.batch() > 0) {
    problem.block_tables = block_tables;
    problem.seq_lens = spec.kv_lens;
  } else {
    problem.paged_kv_indptr = paged_kv_indptr;
    problem.paged_kv_indices = paged_kv_indices;
    problem.paged_kv_last_page_len = paged_kv_last_page_len;
  }
  return problem;
}

}  // namespace flashladder::ladder
