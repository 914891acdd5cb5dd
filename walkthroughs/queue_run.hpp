// D6's queues on the CPU: a thread for each CTA of a plan, D5's tile loop for each item, and the counter by which the last
// CTA to arrive at a merge knows that it is the last.
#pragma once

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
  const PlanPart& part = plan.parts.front();
  std::vector<std::atomic<std::uint32_t>> counters(plan.num_merges());
  const auto cta = [&](std::int32_t index) {
    for (std::int32_t q = part.queue_indptr[index]; q < part.queue_indptr[index + 1]; ++q) {
      const WorkItem item = part.work(part.queue[q]);
      run.store(item, attend_on_tensor_cores(problem, item));
      if (item.whole()) continue;
      const Merge merge = part.merge(item.merge);
      const auto last = static_cast<std::uint32_t>(merge.num_partials - 1);
      if (inc(counters[item.merge], last) == last) run.join(merge);
    }
  };
  std::vector<std::jthread> threads;
  for (std::int32_t index = 0; index < plan.num_ctas(); ++index) threads.emplace_back(cta, index);
  threads.clear();
  return run.result();
}

}  // namespace flashladder::walkthroughs
