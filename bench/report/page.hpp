// The report as one HTML page: where every line stands under the roofline, what each rung gained, rates over lengths and
// batches, errors, targets, and what changed since an older report. Every number of it is a line's, or two lines' quotient.
#pragma once

#include <string>

#include "bench/report/against.hpp"
#include "bench/report/lines.hpp"

namespace flashladder::bench {

// against: null if there is no older report.
std::string report_page(const Lines& lines, const Against* against);

}  // namespace flashladder::bench
