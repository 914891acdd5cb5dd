// agree: does a rung equal the rung below on a case, and the oracle? The one question that proves the ladder.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ladder/compare.hpp"
#include "ladder/oracle.hpp"
#include "ladder/rung.hpp"

namespace flashladder::ladder {

// What one run gave. Output and workspace started as NaN between guard bands.
struct RunResult {
  std::vector<float> o, lse_log2;
  double milliseconds = 0;  // what the stopwatch says of the run alone, the plan made before
  bool guards_intact = true;
};

// Calls run at least once and says how many milliseconds one takes.
using Stopwatch = std::function<double(const std::function<void()>& run)>;
double time_once(const std::function<void()>& run);

// Allocates, poisons and guards the buffers, prepares, and runs as often as the stopwatch does. Throws InputError if the
// rung does not support the case.
RunResult run_rung(const Rung& rung, const Case& c, const Settings& settings = {}, const Stopwatch& stopwatch = time_once);

// rung against the one it must equal, `below` (its result on the same case), and against the oracle; the worse of both.
// Two rungs that both stay within the tolerance of the oracle may stand on either side of it: they may differ by twice that.
Comparison agree(const Case& c, const RunResult& rung, const RunResult* below, const Oracle& oracle);

// The oracles of one case, made when first asked for: one for each way in which rungs round.
class Oracles {
 public:
  explicit Oracles(const Case& c) : case_(c) {}  // c must outlive it
  const Oracle& of(const Rung& rung);

 private:
  const Case& case_;
  std::map<Rounding, Oracle> made_;
};

}  // namespace flashladder::ladder
