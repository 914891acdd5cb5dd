// Lengths in, Plan out: on the host, deterministic, without a GPU. The type Plan is core's: executors never see this file.
//
//   parts  ->  tiles  ->  chunks (the split policy)  ->  items  ->  a queue for every CTA
//
// Policies balanced and even hand each CTA one contiguous stretch of the work. The others give the items, in order, to the CTA
// that is least loaded so far (ties: the lowest index), which is what a GPU's block scheduler does with a grid of items. With
// `claimed` all policies do that, in the order of the claims; there it is a prediction, which may be left out. A second part
// is given to CTAs that have the first one's load already, so that the sums of both are even.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/plan.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::planner {

// Reuses the vectors of out: a second call of the same size allocates nothing. Throws InputError if validate(inputs) does,
// if there would be more than max_items items, or if the plan is outside of inputs.capture; out is then unspecified.
void make_plan(const PlanInputs& inputs, Plan& out);
Plan make_plan(const PlanInputs& inputs);

inline constexpr std::int64_t max_items = std::int64_t{1} << 26;  // a batch that big is a mistake

struct PlanSummary {
  std::int64_t items = 0, tiles = 0;        // a tile counts once for each head
  std::array<std::int64_t, tiers.size()> tier_counts{};
  std::int32_t chunks_min = 0, chunks_max = 0;  // chunks of a tile; in decode, of a (request, head)
  double chunks_avg = 0;
  double utilisation = 0;                   // total_cost / (num_ctas * makespan); 0 for an empty plan
  double tail = 0;                          // makespan - mean cost of a CTA, in key-equivalents
  std::int64_t merges = 0, partial_rows = 0;
  std::size_t workspace_bytes = 0;
  std::int32_t idle_ctas = 0;               // with an empty queue
};
PlanSummary summarize(const Plan& plan);

// [plan.num_work()]  predicted cost of each work item, all of part 0, then of part 1: what pictures of a plan draw.
std::vector<float> work_costs(const Plan& plan, const CostModel& cost);

// What a plan takes of each captured size: capture with these, or with something larger.
CaptureLimits usage(const Plan& plan, const PlanInputs& inputs);
// "" if the plan stays within the limits; else a sentence that names every exceeded limit with both numbers.
std::string exceeds(const Plan& plan, const PlanInputs& inputs, const CaptureLimits& limits);
bool fits(const Plan& plan, const PlanInputs& inputs, const CaptureLimits& limits);

}  // namespace flashladder::planner
