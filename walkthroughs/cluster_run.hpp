// D7's plan on the CPU: a thread for each cluster of a plan, the model's CTAs in it, and a counter for each row of a tile
// that is cut among clusters.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "walkthroughs/cluster_model.hpp"
#include "walkthroughs/queue_run.hpp"

namespace flashladder::walkthroughs {

// seed: of the orders in which the CTAs of the clusters run.
inline ladder::RunResult run_clusters(const ladder::Case& c, const Plan& plan, std::uint32_t seed) {
  const AttentionProblem problem = c.problem();
  PlanRun run(c, plan);
  const PlanPart& part = plan.parts.front();
  std::vector<std::atomic<std::uint32_t>> counters(plan.num_merges() * part.query_tile);
  const auto cluster = [&](std::int32_t index) {
    std::vector<WorkItem> items;
    std::vector<CtaParts> parts;
    for (std::int32_t q = part.queue_indptr[index]; q < part.queue_indptr[index + 1]; ++q) {
      items.push_back(part.work(part.queue[q]));
      parts.push_back(find_parts(problem, items.back()));
    }
    if (items.empty()) return;
    const std::vector<Rows> joined = Cluster({}, parts).run(random_order(seed + index));
    for (std::size_t i = 0; i < items.size(); ++i) {
      for (int r = 0; r < items[i].rows.size(); ++r) {
        run.store_row(items[i], r, joined[i][r]);
        if (items[i].whole()) continue;
        const Merge merge = part.merge(items[i].merge);
        const auto last = static_cast<std::uint32_t>(merge.num_partials - 1);
        if (inc(counters[items[i].merge * part.query_tile + r], last) == last) run.join_row(merge, r);
      }
    }
  };
  std::vector<std::jthread> threads;
  for (std::int32_t index = 0; index < plan.num_ctas(); ++index) threads.emplace_back(cluster, index);
  threads.clear();
  return run.result();
}

}  // namespace flashladder::walkthroughs
