// What is timed is checked in the same run. On a large case the double oracle would take longer than everything else, so it
// computes a sample of the heads, and the whole output is compared with the rung below.
#pragma once

#include <cstdint>
#include <string>

#include "ladder/agree.hpp"

namespace flashladder::bench {

struct SampledOracle {
  ladder::Oracle oracle;            // heads outside of the sample are NaN
  ladder::HeadFilter in_sample;
  std::int64_t heads = 0, all = 0;  // (request, query head) pairs in the sample, pairs that there are
  std::string text() const;         // "4 of 32 heads"
};

inline constexpr double affordable_operations = 4e9;  // of the naive formula: a few seconds on one core

// Evenly spread (request, head) pairs, as many as `operations` allow, at least one; all of them where the case is small.
SampledOracle sampled_oracle(const ladder::Case& c, ladder::Rounding rounding = {},
                             double operations = affordable_operations);

// ladder::agree() with the oracle's part on the sample. The whole of `rung` is compared with `below`, if there is one.
ladder::Comparison agree(const ladder::Case& c, const ladder::RunResult& rung, const ladder::RunResult* below,
                         const SampledOracle& sample);

}  // namespace flashladder::bench
