// Lengths in, Plan out: on the host, deterministic, without a GPU. The type Plan is core's: executors never see this file.
//
//   tiles  ->  chunks (the split policy)  ->  items  ->  a queue for every CTA
//
// Policy balanced hands each CTA one contiguous stretch of the work. The others give the items, in order, to the CTA that
// is least loaded so far (ties: the lowest index), which is what a GPU's block scheduler does with a grid of items.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/plan.hpp"
#include "planner/plan_inputs.hpp"

namespace flashladder::planner {

// Reuses the vectors of out: a second call of the same size allocates nothing. Throws InputError if validate(inputs) does,
// if there would be more than max_items items, or if the plan is outside of inputs.capture; out is then unspecified.
void make_plan(const PlanInputs& inputs, Plan& out);
Plan make_plan(const PlanInputs& inputs);

inline constexpr std::int64_t max_items = std::int64_t{1} << 26;  // 2.5 GiB of them: a batch that big is a mistake

struct PlanSummary {
  std::int64_t items = 0, tiles = 0;        // a tile counts once for each KV head
  std::array<std::int64_t, tiers.size()> tier_counts{};
  std::int32_t chunks_min = 0, chunks_max = 0;  // chunks of a tile; in decode, of a (request, KV head)
  double chunks_avg = 0;
  double utilisation = 0;                   // total_cost / (num_ctas * makespan); 0 for an empty plan
  double tail = 0;                          // makespan - mean cost of a CTA, in key-equivalents
  std::int64_t merges = 0, partial_rows = 0;
  std::size_t workspace_bytes = 0;
  std::int32_t idle_ctas = 0;               // with an empty queue
};
PlanSummary summarize(const Plan& plan);

// What a plan takes of each captured size: capture with these, or with something larger.
CaptureLimits usage(const Plan& plan, const PlanInputs& inputs);
// "" if the plan stays within the limits; else a sentence that names every exceeded limit with both numbers.
std::string exceeds(const Plan& plan, const PlanInputs& inputs, const CaptureLimits& limits);
bool fits(const Plan& plan, const PlanInputs& inputs, const CaptureLimits& limits);

}  // namespace flashladder::planner
