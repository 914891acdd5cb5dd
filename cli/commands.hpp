// The commands of `flashladder`, one file each, and what a command's exit code says.
#pragma once

#include "ladder/arguments.hpp"

namespace flashladder::cli {

enum ExitCode { good = 0, mismatch = 1, bad_input = 2, nothing_ran = 77 };

// Each adds its command to the program; what it runs returns the exit code. Bad input is an InputError, which main() prints.
void add_climb(ladder::Program& program);
void add_plan(ladder::Program& program);
void add_verify(ladder::Program& program);
void add_run(ladder::Program& program);
void add_bench(ladder::Program& program);
void add_report(ladder::Program& program);
void add_case(ladder::Program& program);

}  // namespace flashladder::cli
