// The planner's inputs on a machine so bare that a plan can be worked out by hand.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/planner.hpp"

namespace flashladder::test {

using Lengths = std::vector<std::int32_t>;
using Lines = std::vector<std::string>;

// One CTA an SM, no overhead, exact alignment: costs are then numbers of keys.
inline planner::PlanInputs bare(planner::PlanInputs in, planner::SplitPolicy policy, std::int32_t num_ctas) {
  in.policy = policy;
  in.chunk_align = 1;
  in.machine = {num_ctas, 1};
  in.cost = {.per_item = 0, .memory_bound_rows = 128};
  return in;
}

}  // namespace flashladder::test
