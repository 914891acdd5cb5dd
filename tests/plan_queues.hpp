// What holds of a plan's queues: all work once, costs added up in order, and the order that the policy promises.
#pragma once

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "planner/planner.hpp"
#include "tests/flat_plan.hpp"

namespace flashladder::test {

using namespace planner;

// Policies balanced and even: the CTAs of one head's lanes, one after the other, run that head's items in their order; or, where there
// are no such lanes, all CTAs run all items in their order.
inline std::string stretches(const PlanInputs& in, const FlatPlan& plan, std::int32_t part) {
  std::vector<std::int32_t> of_part;
  for (std::int32_t i = 0; i < std::ssize(plan.work); ++i) {
    if (plan.work[i].part == part) of_part.push_back(i);
  }
  if (of_part.empty()) return "";
  const std::int64_t ctas = in.machine.num_ctas(), heads = in.num_qo_heads / plan.work[of_part[0]].pack;
  const std::int64_t lanes = ctas / heads;
  const bool by_head = 20 * lanes * heads >= 19 * ctas;
  for (std::int64_t head = 0; head < (by_head ? heads : 1); ++head) {
    std::vector<std::int32_t> run, wanted;
    for (std::int64_t c = head; c < (by_head ? lanes * heads : ctas); c += by_head ? heads : 1) {
      const auto in_part = [&](std::int32_t i) { return plan.work[i].part == part; };
      std::ranges::copy_if(plan.queues[c], std::back_inserter(run), in_part);
    }
    std::ranges::copy_if(of_part, std::back_inserter(wanted),
                         [&](std::int32_t i) { return !by_head || plan.work[i].item.head == head; });
    if (run != wanted) return "the queues of a line are not contiguous";
  }
  return "";
}

inline std::string queues_and_costs(const PlanInputs& in, const Plan& plan) {
  const FlatPlan flat(plan);
  const auto cost = [&](std::int32_t i) {
    return static_cast<float>(in.cost.item(flat.work[i].item.rows.size(), flat.work[i].item.keys.size()));
  };
  if (plan.num_ctas() != in.machine.num_ctas()) return "num_ctas";
  for (const PlanPart& part : plan.parts) {
    if (part.queue_indptr.front() != 0 || part.queue_indptr.size() != plan.cta_cost.size() + 1) return "queue_indptr";
    if (!std::ranges::is_sorted(part.queue_indptr)) return "queue_indptr decreases";
  }
  std::vector<std::int32_t> queued, all(flat.work.size());
  for (const auto& queue : flat.queues) queued.insert(queued.end(), queue.begin(), queue.end());
  std::ranges::sort(queued);
  std::iota(all.begin(), all.end(), 0);
  if (queued != all) return "the queues are no permutation of the work";
  float total = 0, makespan = 0;
  for (std::size_t c = 0; c < flat.queues.size(); ++c) {
    float load = 0;
    for (const std::int32_t i : flat.queues[c]) load += cost(i);
    if (load != plan.cta_cost[c]) return "cta_cost";
    total += load;
    makespan = std::max(makespan, load);
  }
  if (total != plan.total_cost || makespan != plan.makespan) return "total_cost or makespan";
  if (cuts_a_line(in.policy) && !in.claimed) {
    const std::string first = stretches(in, flat, 0);
    return first.empty() ? stretches(in, flat, 1) : first;
  }

  std::vector<float> loads(flat.queues.size(), 0.0f);  // list scheduling by linear search
  std::vector<std::vector<std::int32_t>> queues(flat.queues.size());
  for (const std::int32_t i : all) {
    const auto least = std::min_element(loads.begin(), loads.end()) - loads.begin();
    loads[least] += cost(i);
    queues[least].push_back(i);
  }
  return queues == flat.queues && loads == plan.cta_cost ? "" : "not the list schedule";
}

}  // namespace flashladder::test
