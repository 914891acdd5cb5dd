// A report as JSON, which `--against` reads back, and as CSV (docs/report.md names the keys).
#pragma once

#include <string>

#include "bench/report/against.hpp"
#include "bench/report/lines.hpp"

namespace flashladder::bench {

// against: null if there is no older report.
std::string report_json(const Lines& lines, const Against* against);
std::string report_csv(const Lines& lines);

// The works of an older report. InputError, naming the file and the key, if the text is no report's JSON.
Lines lines_of_report(const LineText& report);

}  // namespace flashladder::bench
