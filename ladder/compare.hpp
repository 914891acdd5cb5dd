// Element by element: is what a rung gave what it should have given? A comparison fails unless error <= tolerance, so that a
// NaN anywhere fails it, and it says where the worst element stands and what both sides hold there.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "ladder/cases/case.hpp"
#include "ladder/oracle.hpp"

namespace flashladder::ladder {

// The worst element of one tensor.
struct Worst {
  double error = 0, tolerance = 0;  // error is +inf where one side is NaN or only one is infinite
  std::int32_t request = -1, query = -1, head = -1, feature = -1;  // feature -1: lse_log2
  double got = 0, want = 0;
  bool ok() const { return error <= tolerance; }
  double ratio() const { return tolerance > 0 ? error / tolerance : error > 0 ? 1e300 : 0; }
};

struct Comparison {
  Worst o, lse_log2;
  std::string complaint;  // what is wrong beside numbers: guards, sizes
  bool ok() const { return complaint.empty() && o.ok() && lse_log2.ok(); }
  double ratio() const { return o.ratio() > lse_log2.ratio() ? o.ratio() : lse_log2.ratio(); }  // of the tolerance, at worst
  std::string message() const;  // "" if ok
};

// got: a rung's. want: another rung's or the oracle's, as double. Sizes as in Oracle. An empty want_lse is not compared.
Comparison compare(const Case& c, std::span<const float> got_o, std::span<const float> got_lse,
                   std::span<const double> want_o, std::span<const double> want_lse, const Tolerance& tolerance);

}  // namespace flashladder::ladder
