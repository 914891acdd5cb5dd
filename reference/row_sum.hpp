// A sum over a row, in double.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace flashladder::reference {

// The sum of of(x[i]). Eight sums side by side, joined at the end: vector code, and the same bits wherever the row lies. It
// is off by (d / 8 + 8) 2^-53 of the sum of |of(x[i])| at most.
template <class Of>
double row_sum(std::span<const float> x, const Of& of) {
  std::array<double, 8> sums{};
  std::size_t i = 0;
  for (; i + sums.size() <= x.size(); i += sums.size()) {
    for (std::size_t lane = 0; lane < sums.size(); ++lane) sums[lane] += of(double{x[i + lane]});
  }
  for (; i < x.size(); ++i) sums[0] += of(double{x[i]});
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

}  // namespace flashladder::reference
