// What each rung gained: the lines of family prefill-ladder, rung by rung.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/measurement.hpp"

namespace flashladder::bench {

struct LadderRow {
  std::string work, rung, idea;          // of a plug-in: its backend, and no idea
  double us = 0, tera_flops = 0;
  std::optional<double> share_of_peak;   // of what the tensor cores could do
  std::string below;                     // the nearest rung below that was timed on this case; "" if none. For a plug-in,
                                         // which stands nowhere on the ladder: the fastest rung that it outruns
  std::optional<double> gain;            // its time divided by this one's
};

// One row for each line, in their order. Lines of other families are passed over.
std::vector<LadderRow> ladder_rows(std::span<const Measurement> lines, const std::optional<double>& peak_tera_flops);

}  // namespace flashladder::bench
