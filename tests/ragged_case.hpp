// A case's keys and values without pages.
#pragma once

#include <cstdint>
#include <vector>

#include "core/attention_problem.hpp"
#include "core/half.hpp"

namespace flashladder::test {

// A case's tokens one after the other, as a ragged cache has them.
struct RaggedCase {
  std::vector<std::int32_t> kv_indptr{0};
  std::vector<Half> k, v;

  explicit RaggedCase(const AttentionProblem& problem) {
    const PagedKvCache& kv = problem.kv;
    for (std::int32_t b = 0; b < problem.batch(); ++b) {
      for (std::int32_t token = 0; token < problem.kv_len(b); ++token) {
        const KvSlot slot = problem.page_table().locate(b, token);
        for (std::int32_t head = 0; head < kv.num_kv_heads; ++head) {
          const Half* key = static_cast<const Half*>(kv.k) + kv.k_strides.offset(slot, head);
          const Half* value = static_cast<const Half*>(kv.v) + kv.v_strides.offset(slot, head);
          k.insert(k.end(), key, key + kv.head_dim_qk), v.insert(v.end(), value, value + kv.head_dim_vo);
        }
      }
      kv_indptr.push_back(kv_indptr.back() + problem.kv_len(b));
    }
  }
};

}  // namespace flashladder::test
