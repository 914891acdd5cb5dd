// Llama 3.1's frequencies as FlashInfer's kernels have them, which shares no code with core/rope.hpp.
#pragma once

#include <algorithm>
#include <cmath>

#include "core/rope.hpp"

namespace ops_test {

// Of the unscaled frequency f. T is double or long double.
template <class T>
T llama31_frequency(T f, T scale, const flashladder::Llama31Scaling& scaling) {
  const T pi = std::acos(T{-1}), low = scaling.low_freq_factor, high = scaling.high_freq_factor;
  const T a = scaling.old_context_len / (2 * pi * (high - low)), b = -1 / (high / low - 1);
  const T s = std::clamp(f * a + b, T{0}, T{1});
  return (1 - s) * (f / scale) + s * f;
}

}  // namespace ops_test
