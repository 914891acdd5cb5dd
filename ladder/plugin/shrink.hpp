// From a case that fails to the smallest that still fails: fewer requests, shorter, fewer heads, smaller dims and pages, one
// feature less, as long as the kernel goes on failing in the same way.
#pragma once

#include <functional>

#include "ladder/cases/case_spec.hpp"

namespace flashladder::ladder {

struct ShrinkLimits {
  int runs = 400;
  double seconds = 60;
};

struct Shrunk {
  CaseSpec spec;  // the smallest that was found; named by its case string
  int runs = 0;   // how often still_fails was asked
};

// Greedy: every smaller neighbour of the case is tried, from the boldest cut to the most timid; the first that still fails
// takes its place. Values are drawn anew for each, from the same seed.
Shrunk shrink(const CaseSpec& failing, const std::function<bool(const CaseSpec&)>& still_fails,
              const ShrinkLimits& limits = {});

}  // namespace flashladder::ladder
