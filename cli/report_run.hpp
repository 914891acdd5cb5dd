// What `flashladder report` measures when it is given no lines: a small selection, each work checked in the same run.
#pragma once

#include <string>
#include <vector>

#include "ladder/rung.hpp"

namespace flashladder::cli {

struct MeasuredLines {
  std::string json_lines;             // the machine and its measurements (docs/case_format.md)
  std::vector<std::string> failures;  // works that were wrong; they have no line
};

// Rounds in turn: every work once (on a GPU every work of a family), then all of them again, so that a drift of the clock
// spreads over them alike.
MeasuredLines measure_cpu_rungs(const ladder::Settings& settings, int rounds);
MeasuredLines measure_gpu_families(int rounds);  // wants a GPU

}  // namespace flashladder::cli
