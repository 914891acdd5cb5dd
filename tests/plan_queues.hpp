// What holds of a plan's queues: every item once, costs added up in order, and the order that the policy promises.
#pragma once

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "planner/planner.hpp"

namespace flashladder::test {

using namespace planner;

// Policy balanced: the CTAs of one head's lanes, one after the other, run that head's items in their order; or, where there
// are no such lanes, all CTAs run all items in their order.
inline std::string stretches(const PlanInputs& in, const Plan& plan) {
  const std::int64_t ctas = in.machine.num_ctas(), heads = in.num_kv_heads, lanes = ctas / heads;
  const bool by_head = 20 * lanes * heads >= 19 * ctas;
  for (std::int64_t head = 0; head < (by_head ? heads : 1); ++head) {
    std::vector<std::int32_t> run, wanted;
    for (std::int64_t c = head; c < (by_head ? lanes * heads : ctas); c += by_head ? heads : 1) {
      run.insert(run.end(), plan.queue.begin() + plan.queue_indptr[c], plan.queue.begin() + plan.queue_indptr[c + 1]);
    }
    for (std::int32_t i = 0; i < static_cast<std::int32_t>(plan.items.size()); ++i) {
      if (!by_head || plan.items[i].kv_head == head) wanted.push_back(i);
    }
    if (run != wanted) return "balanced queues are not contiguous";
  }
  return "";
}

inline std::string queues_and_costs(const PlanInputs& in, const Plan& plan) {
  const auto cost = [&](std::int32_t i) {
    return static_cast<float>(in.cost.item(plan.items[i].rows.size(), plan.items[i].keys.size()));
  };
  if (plan.num_ctas() != in.machine.num_ctas() || plan.queue_indptr.front() != 0) return "queue_indptr";
  std::vector<std::int32_t> sorted = plan.queue, all(plan.items.size());
  std::sort(sorted.begin(), sorted.end());
  std::iota(all.begin(), all.end(), 0);
  if (sorted != all) return "the queue is no permutation of the items";
  float total = 0, makespan = 0;
  for (std::int32_t c = 0; c < plan.num_ctas(); ++c) {
    if (plan.queue_indptr[c] > plan.queue_indptr[c + 1]) return "queue_indptr decreases";
    float load = 0;
    for (std::int32_t q = plan.queue_indptr[c]; q < plan.queue_indptr[c + 1]; ++q) load += cost(plan.queue[q]);
    if (load != plan.cta_cost[c]) return "cta_cost";
    total += load;
    makespan = std::max(makespan, load);
  }
  if (total != plan.total_cost || makespan != plan.makespan) return "total_cost or makespan";
  if (in.policy == SplitPolicy::balanced) return stretches(in, plan);

  std::vector<float> loads(plan.num_ctas(), 0.0f);  // list scheduling by linear search
  std::vector<std::vector<std::int32_t>> queues(plan.num_ctas());
  for (std::int32_t i : all) {
    const auto least = std::min_element(loads.begin(), loads.end()) - loads.begin();
    loads[least] += cost(i);
    queues[least].push_back(i);
  }
  std::vector<std::int32_t> joined;
  for (const auto& queue : queues) joined.insert(joined.end(), queue.begin(), queue.end());
  return joined == plan.queue && loads == plan.cta_cost ? "" : "not the list schedule";
}

}  // namespace flashladder::test
