#include "core/attention_problem.hpp"

namespace flashladder {

void mask_offsets(const AttentionProblem& problem, std::vector<std::int64_t>& offsets) {
  offsets.assign(problem.batch() + 1, 0);
  for (std::int32_t b = 0; b < problem.batch(); ++b) {
    offsets[b + 1] = offsets[b] + std::int64_t{problem.qo_len(b)} * problem.kv_len(b);
  }
}

std::vector<std::int64_t> mask_offsets(const AttentionProblem& problem) {
  std::vector<std::int64_t> offsets;
  mask_offsets(problem, offsets);
  return offsets;
}

}  // namespace flashladder
