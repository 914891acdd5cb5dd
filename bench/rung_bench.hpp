// Rungs on a case: how long they take, how close they come to what memory gives, and whether the answer is right.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "bench/measurement.hpp"
#include "ladder/compare.hpp"
#include "ladder/rung.hpp"

namespace flashladder::bench {

struct RungTiming {
  Measurement line;
  std::string rung, must_equal;     // what the whole output was compared with: "" = only with the oracle
  std::string sample;               // how much of it was compared with the double oracle: "4 of 32 heads"
  ladder::Comparison agreement;
};

// Median of `rounds` runs of each rung, buffers prepared before. The output of the last run is the one that is checked.
// say(text) is told what happens next.
std::vector<RungTiming> time_rungs(const ladder::Case& c, std::span<const ladder::Rung* const> rungs,
                                   const ladder::Settings& settings, int rounds,
                                   const std::function<void(const std::string&)>& say);

// A line of family cpu: its rates are those of the case. backend: without the layout and the page size, which are added.
// threads: 0 if it is not known how many a run takes.
Measurement cpu_line(const ladder::CaseSpec& spec, const std::string& backend, double ms, int threads);

// The case string of family cpu, the same for programs that know no pages: "decode B32 kv2048 32/8 d128 f32".
std::string cpu_case_string(const ladder::CaseSpec& spec);

// The shapes on which C4 is compared with other CPU implementations: a prefill and a decode, f32, pages of 16, both layouts.
std::vector<ladder::CaseSpec> standard_cases();

}  // namespace flashladder::bench
