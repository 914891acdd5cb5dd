// The lanes of a plan on the CPU: how long C4 works on each, next to what the planner's cost model says.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bench/cta_profile.hpp"
#include "core/plan.hpp"
#include "ladder/cases/case_spec.hpp"
#include "ladder/rung.hpp"

namespace flashladder::bench {

// Policies balanced, and none, whose lanes differ enough to test the cost model. There are several lanes a thread, which
// runs them one after the other: a lane begins at 0 and ends after what its work took, each work in the fastest of several
// runs. Throws InputError if the output of a plan does not equal C3's and the double oracle's.
std::vector<CtaProfile> profile_lanes(const ladder::CaseSpec& spec, const ladder::Settings& settings);

// [num_ctas]  what the work of each lane's queue took together, of all parts; work_ns: [plan.num_work()].
std::vector<double> lane_us(const Plan& plan, std::span<const std::int64_t> work_ns);

}  // namespace flashladder::bench
