// Predicted against measured: how long each CTA of a planned kernel ran, and what the planner's cost model had said. The
// lanes of a plan that a CPU executes are the same to it: what a CTA would do.
#pragma once

#include <string>
#include <vector>

#include "draw/svg.hpp"

namespace flashladder::bench {

struct CtaProfile {
  std::string work, policy;                  // case string; "balanced"
  std::vector<double> predicted;             // [num_ctas]  Plan::cta_cost, in key-equivalents
  std::vector<double> begin_us, end_us;      // [num_ctas]  from the start of the first
  std::string backend = {};                  // who executed the plan: "flashladder D6"
};

// measured = fixed_us + ns_per_key * predicted, by least squares over CTAs that have work; correlation is Pearson's r (0
// where either side is all the same).
struct CtaFit {
  double fixed_us = 0, ns_per_key = 0, correlation = 0;
  double mean_us = 0, longest_us = 0;        // of CTAs with work
  double kernel_us = 0;                      // from the first start to the last end
  double predicted_imbalance = 0, measured_imbalance = 0;  // longest / mean; 1 is level
  int ctas = 0;                              // with work

  double predicted_us(double cost) const { return fixed_us + 1e-3 * ns_per_key * cost; }
};
CtaFit fit(const CtaProfile& profile);

// lane: what they are called, "CTA" or, on a CPU, "lane".
std::string text(const CtaProfile& profile, const CtaFit& fit, const std::string& lane = "CTA");
draw::Svg picture(const CtaProfile& profile, const CtaFit& fit, const std::string& lane = "CTA");

// An HTML page with a chart of each.
std::string cta_page(const std::vector<CtaProfile>& profiles, const std::string& machine);

}  // namespace flashladder::bench
