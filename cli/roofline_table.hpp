// What was measured on a GPU as tables: time, bandwidth, and how far both are from what the memory gives.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "bench/cta_profile.hpp"
#include "bench/measurement.hpp"

namespace flashladder::cli {

struct LineCheck {
  std::string family, line, compared;  // "rope"; "64 tokens 32/8 neox, flashladder"; "all 64 rows equal the CPU reference"
};

// lines: families copy and read are the ceilings ("copy 4 GiB", "read 4 GiB") and the floors of cases of the same name; of
// several runs the median counts. checks: one a line.
std::string roofline_report(const bench::GpuMachine& machine, std::span<const bench::Measurement> lines,
                            const std::vector<LineCheck>& checks);

// Of each profile how long its CTAs took.
std::string cta_report(std::span<const bench::CtaProfile> profiles);

}  // namespace flashladder::cli
