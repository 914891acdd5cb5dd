// The parts of draw_case(), each from its own stream of random numbers, so that one never shifts another.
#pragma once

#include <cstdint>
#include <vector>

#include "ladder/cases/case.hpp"

namespace flashladder::ladder {

enum class Stream : std::uint64_t { q, k, v, pages, mask, sinks, directions, peaks };

// Fills q and the used slots of the cache, whose unused slots become NaN.
void draw_values(Case& c);

// [sum of qo_len * kv_len] bytes, 1 = visible.
//   causal      bottom-right, as the mask mode
//   tree        speculative decoding: the last qo_len tokens are a tree of drafts, each sees the prefix, its ancestors and
//               itself
//   random      a coin for every pair
//   empty_rows  random, but the first row of each request and about a third of the others see nothing
//   holes       for who looks at many keys at once: all see nearly everything. Some 64 keys are hidden from all queries of a
//               request; two of three queries miss single keys beside multiples of 32, and some of them 64 keys in a row
std::vector<std::uint8_t> draw_mask(const CaseSpec& spec);

}  // namespace flashladder::ladder
