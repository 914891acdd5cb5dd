// Batches on which schedules differ: one long request among short ones and an empty one.
#pragma once

#include "ladder/cases/case_spec.hpp"

namespace flashladder::test {

inline ladder::CaseSpec skewed_batch() {
  ladder::CaseSpec spec{.name = "skewed", .qo_lens = {1, 1, 1, 1, 1}, .kv_lens = {900, 3, 0, 40, 410}};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.125f};
  return spec;
}

// Both parts of C4's plans: requests of one query, and one of many.
inline ladder::CaseSpec mixed_batch() {
  ladder::CaseSpec spec = skewed_batch();
  spec.name = "mixed";
  spec.qo_lens.push_back(90);
  spec.kv_lens.push_back(700);
  return spec;
}

}  // namespace flashladder::test
