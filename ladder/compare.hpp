// Row by row: is what a rung gave what it should have given? There are three verdicts.
//   ok         every element's error <= its row's tolerance, and each tolerance is small enough to prove something
//   fail       some element's error is larger, or a NaN stands on one side; it says where, and what both sides hold
//   undecided  nothing is wrong where the tolerance proves something, but there is a row where no answer could fail: its
//              tolerance is not finite, or not smaller than what a wrong answer differs by (RowTolerance in tolerance.hpp)
// Undecided is never ok: commands end with the exit code of a mismatch.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "ladder/cases/case.hpp"
#include "ladder/tolerance.hpp"

namespace flashladder::ladder {

enum class Verdict : std::uint8_t { ok, undecided, fail };  // from good to bad

constexpr const char* name_of(Verdict v) {
  return v == Verdict::ok ? "ok" : v == Verdict::undecided ? "undecided" : "FAIL";
}

// The element that comes nearest to its tolerance, or exceeds it most, of those rows of one tensor that can be decided.
struct Worst {
  double error = 0, tolerance = 0;  // error is +inf where one side is NaN or only one is infinite
  std::int32_t request = -1, query = -1, head = -1, feature = -1;  // feature -1: lse_log2
  double got = 0, want = 0;
  bool ok() const { return error <= tolerance; }
  double ratio() const;  // error / tolerance, +inf for an error where none is allowed
};

// Rows of one tensor that can't be decided.
struct Undecided {
  std::int64_t rows = 0;
  std::int32_t request = -1, query = -1, head = -1;  // the first of them
  double tolerance = 0, reach = 0;                   // its tolerance, and what a wrong answer differs by
};

Verdict verdict_of(const Worst& worst, const Undecided& undecided);

struct Comparison {
  Worst o, lse_log2;
  Undecided o_undecided, lse_undecided;
  std::string complaint;  // what is wrong beside numbers: guards, sizes

  Verdict verdict() const;
  bool ok() const { return verdict() == Verdict::ok; }
  const Worst& worst() const { return o.ratio() > lse_log2.ratio() ? o : lse_log2; }  // the one nearer to its tolerance
  double ratio() const { return worst().ratio(); }
  std::string message() const;  // "" if ok
};

// Whether a says something worse than b: its verdict, or with the same verdict its share of the tolerance.
bool is_worse(const Comparison& a, const Comparison& b);

// got: a rung's. want: another rung's or the oracle's, as double. tolerance: one a row, of which `share` times is allowed;
// whether it decides does not depend on the share. Sizes as in Oracle. Where want_o or want_lse is empty there is nothing to
// compare with, and only a NaN fails.
Comparison compare(const Case& c, std::span<const float> got_o, std::span<const float> got_lse,
                   std::span<const double> want_o, std::span<const double> want_lse,
                   std::span<const RowTolerance> tolerance, double share = 1);

}  // namespace flashladder::ladder
