// A plan as lanes: one lane a CTA, one bar a work item, as long as its predicted cost. Lanes of one SM stand together.
// Colour is the request; a hatched bar (pale, where lanes are thin) leaves a partial that a merge joins later; grey is a CTA
// that has nothing to do while others still work: the tail that a balanced plan removes.
//
// CTAs c = s * ctas_per_sm .. + ctas_per_sm - 1 are drawn as SM s. The hardware promises no placement; this is an order to
// read by.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/plan.hpp"
#include "draw/figure.hpp"

namespace flashladder::draw {

// work_cost: [plan.num_work()], all work of part 0, then of part 1, in the planner's unit. A lane is what its CTA does of
// all parts, one part after the other; merges are not drawn as time.
struct LaneSummary {
  double makespan = 0;     // the longest lane
  double utilisation = 0;  // mean lane / makespan; 0 for an empty plan
  double tail = 0;         // makespan - mean lane: what perfect balance would save
};
LaneSummary summarize_lanes(const Plan& plan, std::span<const float> work_cost);

// Throw InputError where work_cost and plan disagree or the queues name work that are not there.
Svg plan_lanes(const Plan& plan, std::span<const float> work_cost, std::int32_t ctas_per_sm, const std::string& title);

struct PolicyLanes {
  std::string name;
  const Plan* plan = nullptr;
  std::span<const float> work_cost;
};

// What bars and legend call a request: its number, or, for a text that does so too, A for 0, B for 1 (up to 26 requests).
enum class RequestNames : std::uint8_t { numbers, letters };

// Several plans of the same batch, side by side over the same time axis.
Svg policies_picture(std::span<const PolicyLanes> policies, std::int32_t ctas_per_sm, const Caption& caption = {},
                     RequestNames names = RequestNames::numbers);

}  // namespace flashladder::draw
