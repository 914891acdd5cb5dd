// Measured lines of a GPU as a table: time, bandwidth, and how far both are from what the memory gives.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "bench/measurement.hpp"

namespace flashladder::cli {

// lines: families copy and read are the ceilings ("copy 4 GiB", "read 4 GiB") and the floors of cases of the same name; of
// several runs the median counts. checks: what each line was compared with.
std::string roofline_report(const bench::GpuMachine& machine, std::span<const bench::Measurement> lines,
                            const std::vector<std::string>& checks);

}  // namespace flashladder::cli
