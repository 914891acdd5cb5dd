// The commands of `flashladder`, one file each, and what a command's exit code says.
#pragma once

#include <CLI/CLI.hpp>

namespace flashladder::cli {

enum ExitCode { good = 0, mismatch = 1, bad_input = 2, nothing_ran = 77 };

// Each adds its command to the program; when the command line has named it, it runs and leaves its exit code. Bad input is
// an InputError, which main() prints.
void add_climb(CLI::App& program, int& exit_code);
void add_plan(CLI::App& program, int& exit_code);
void add_verify(CLI::App& program, int& exit_code);
void add_run(CLI::App& program, int& exit_code);
void add_bench(CLI::App& program, int& exit_code);
void add_case(CLI::App& program, int& exit_code);

}  // namespace flashladder::cli
