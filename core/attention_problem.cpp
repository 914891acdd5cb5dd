#include "core/attention_problem.hpp"

namespace flashladder {

std::vector<std::int64_t> mask_offsets(const AttentionProblem& problem) {
  std::vector<std::int64_t> offsets(problem.batch() + 1, 0);
  for (std::int32_t b = 0; b < problem.batch(); ++b) {
    offsets[b + 1] = offsets[b] + std::int64_t{problem.qo_len(b)} * problem.kv_len(b);
  }
  return offsets;
}

}  // namespace flashladder
