// A plug-in is run in a process of its own, one for each case, with a time limit: whatever it does there, this process goes
// on and says what it did.
#pragma once

#include <cstdint>
#include <string>

#include "ladder/agree.hpp"
#include "ladder/cases/case.hpp"

namespace flashladder::ladder {

// How a run ended.
enum class Ending : std::uint8_t {
  finished,        // there is a result, right or wrong
  refused,         // supports() gave a reason
  failed,          // a function returned an error, or threw
  crashed,         // a signal ended the process: a segmentation fault, an abort
  exited,          // the process was ended from inside
  hung,            // took longer than the limit
  wrote_outside,   // a guard band around o, lse_log2, the workspace or an input is damaged
  modified_input,  // an input is not what it was
  unsteady,        // the second run gave other bits than the first
};
const char* name_of(Ending ending);  // "wrote out of bounds"

struct ChildRun {
  Ending ending = Ending::failed;
  std::string message = {};  // what happened, and in which function; "" where there is nothing to say
  bool has_result = false;
  RunResult result = {};     // of the first run
};

// What a plug-in says of itself: a rung without functions, and the ending if it could not even say that.
struct Introduction {
  Rung rung;
  ChildRun run;
};

struct ChildOptions {
  double seconds = 20;  // for one case, everything included
};

// Throws InputError for a file that is no plug-in; an entry point that crashes or hangs is an ending.
Introduction introduce(const std::string& path, const ChildOptions& options = {});

// Both runs of the plug-in, each into outputs that start as NaN. In the parent neither the library nor CUDA is touched.
ChildRun run_in_child(const std::string& path, const Case& c, const ChildOptions& options = {});

}  // namespace flashladder::ladder
