// What a head looks at: the softmax weights that no rung above C0 ever holds at once, computed for a picture.
#pragma once

#include <cstdint>
#include <vector>

#include "core/attention_problem.hpp"

namespace flashladder::cli {

// [qo_len, kv_len] of one request and query head, rows add up to 1; NaN where the query does not see the key.
std::vector<float> attention_weights(const AttentionProblem& problem, std::int32_t request, std::int32_t qo_head);

}  // namespace flashladder::cli
