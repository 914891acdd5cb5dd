// How long something takes: the median of several rounds after a warm-up.
#pragma once

#include <functional>

namespace flashladder::bench {

inline constexpr int default_rounds = 7;

// Milliseconds of one call: the median of `rounds` (>= 1) calls, after one that is not counted.
double median_ms(int rounds, const std::function<void()>& call);

}  // namespace flashladder::bench
