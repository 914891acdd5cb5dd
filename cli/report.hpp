// The report for other commands: measured now, and written.
#pragma once

#include <string>

#include "cli/options.hpp"
#include "cli/plugin_timing.hpp"

namespace flashladder::cli {

// Throws InputError if OUT.html, .csv, .json or .jsonl can't be written: asked before minutes of work.
void check_report_files(const std::string& out);

// Measures and writes the four files; quiet: prints nothing. On a GPU plug-ins are not in it, and it says how they come
// there. Returns the exit code: mismatch where an output was wrong.
int report_now(const std::string& out, int rounds, const ThreadOption& threads, const TimedPlugins& plugins, bool quiet);

}  // namespace flashladder::cli
