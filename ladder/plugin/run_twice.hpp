// A plug-in's rung on one case, twice, with every buffer watched. Called in a child process only (child.hpp).
#pragma once

#include <string>

#include "ladder/agree.hpp"

namespace flashladder::ladder {

struct TwoRuns {
  RunResult first;
  bool same_bits = true;                // of the second run, into outputs that are NaN again
  std::string written_outside = {};     // "o", "the input q": whose guard bands are damaged; "": nobody's
  std::string modified = {};            // the input that changed
  std::string cuda_error = {};          // what CUDA reported when a run had finished; then there are no results
};

TwoRuns run_twice(const Rung& rung, const Case& c);

}  // namespace flashladder::ladder
