// D6's queues on the CPU: a thread for each CTA of a plan, D5's tile loop for each item, and the counter by which the last
// CTA to arrive at a merge knows that it is the last.
#pragma once

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "walkthroughs/plan_run.hpp"
#include "walkthroughs/tensor_core.hpp"

namespace flashladder::walkthroughs {

// atom.inc of PTX with acquire and release: adds one, goes back to zero after `most`, and gives what was there before.
inline std::uint32_t inc(std::atomic<std::uint32_t>& counter, std::uint32_t most) {
  std::uint32_t before = counter.load(std::memory_order_relaxed);
  while (!counter.compare_exchange_weak(before, before >= most ? 0 : before + 1, std::memory_order_acq_rel)) {
  }
  return before;
}

// The last CTA to arrive at a merge does it, in slot order.
inline ladder::RunResult run_queues(const ladder::Case& c, const Plan& plan) {
  const AttentionProblem problem = c.problem();
  PlanRun run(c, plan);
  std::vector<std::atomic<std::uint32_t>> counters(plan.merges.size());
  const auto cta = [&](std::int32_t index) {
    for (std::int32_t q = plan.queue_indptr[index]; q < plan.queue_indptr[index + 1]; ++q) {
      const WorkItem& item = plan.items[plan.queue[q]];
      run.store(item, attend_on_tensor_cores(problem, item));
      if (item.whole()) continue;
      const auto after = std::ranges::upper_bound(plan.merges, item.partial_slot, {}, &Merge::first_slot);
      const auto m = static_cast<std::size_t>(after - plan.merges.begin()) - 1;
      const auto last = static_cast<std::uint32_t>(plan.merges[m].num_partials - 1);
      if (inc(counters[m], last) == last) run.join(plan.merges[m]);
    }
  };
  std::vector<std::jthread> threads;
  for (std::int32_t index = 0; index < plan.num_ctas(); ++index) threads.emplace_back(cta, index);
  threads.clear();
  return run.result();
}

}  // namespace flashladder::walkthroughs
