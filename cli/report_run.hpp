// What `flashladder report` measures when it is given no lines: a small selection, each work checked in the same run.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "bench/plugin_bench.hpp"
#include "ladder/cases/input/json.hpp"
#include "ladder/rung.hpp"

namespace flashladder::cli {

struct MeasuredLines {
  std::string json_lines;             // the machine and its measurements (docs/case_format.md)
  std::vector<std::string> failures;  // works that were wrong; they have no line
  std::vector<std::string> notes;     // cases that a plug-in does not take
  int left_out = 0;                   // works, or cases, that the time limit left no line for

  void add(const ladder::Json& line) { json_lines += report_json(line) + "\n"; }
};

// On a GPU measuring ends after so long, but for the work that has begun. A round that has not begun is left out before a
// work is.
inline constexpr std::chrono::seconds gpu_time_limit{180};

// Rounds in turn: every work once (on a GPU every work of a family), then all of them again, so that a drift of the clock
// spreads over them alike.
MeasuredLines measure_cpu_rungs(const ladder::Settings& settings, int rounds, bench::Introduced plugins,
                                const ladder::ChildOptions& child);
MeasuredLines measure_gpu_families(int rounds);  // wants a GPU

}  // namespace flashladder::cli
