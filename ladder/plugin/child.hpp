// A plug-in is run in a process of its own, one for each case, with a time limit: whatever it does there, this process goes
// on and says what it did.
#pragma once

#include <cstdint>
#include <functional>
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
  left_error,      // CUDA reports an error when the stream has finished
  leaked,          // prepare, run and release, repeated, leave memory allocated
};
const char* name_of(Ending ending);  // "wrote out of bounds"

struct ChildRun {
  Ending ending = Ending::failed;
  std::string message = {};  // what happened, and in which function; "" where there is nothing to say
  bool has_result = false;
  RunResult result = {};     // of the first run; of one that was timed the last, with the time
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

// In these, neither the library nor CUDA is touched in the parent.
// Both runs of the plug-in, each into outputs that start as NaN.
ChildRun run_in_child(const std::string& path, const Case& c, const ChildOptions& options = {});

// A plug-in that passes is timed: `timed` runs in the child, as often as it likes, and says how long a run takes.
using TimedRun = std::function<RunResult(const Rung& plugin, const Case& c)>;
ChildRun time_in_child(const std::string& path, const Case& c, const TimedRun& timed, const ChildOptions& options = {});

// leaked, with the amount, or finished; without a result. search_seconds: leaks.hpp.
ChildRun look_for_leak_in_child(const std::string& path, const Case& c, double search_seconds,
                                const ChildOptions& options = {});

}  // namespace flashladder::ladder
