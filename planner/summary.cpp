// What a plan looks like from above: the numbers that compare policies on one batch.
#include <algorithm>

#include "planner/planner.hpp"

namespace flashladder::planner {

PlanSummary summarize(const Plan& plan) {
  PlanSummary s{.items = static_cast<std::int64_t>(plan.items.size()),
                .merges = static_cast<std::int64_t>(plan.merges.size()),
                .partial_rows = plan.partial_rows,
                .workspace_bytes = plan.workspace_bytes()};
  std::int32_t chunks = 0;  // of the current tile
  for (const WorkItem& item : plan.items) {
    ++s.tier_counts[item.tier];
    ++chunks;
    if ((item.flags & WorkItem::last) == 0) continue;
    s.chunks_min = s.tiles == 0 ? chunks : std::min(s.chunks_min, chunks);
    s.chunks_max = std::max(s.chunks_max, chunks);
    ++s.tiles;
    chunks = 0;
  }
  if (s.tiles > 0) s.chunks_avg = static_cast<double>(s.items) / static_cast<double>(s.tiles);

  const double mean = plan.total_cost / static_cast<double>(plan.num_ctas());
  if (plan.makespan > 0) s.utilisation = mean / plan.makespan;
  s.tail = std::max(0.0, plan.makespan - mean);  // mean may be rounded up past an even makespan
  for (std::int32_t c = 0; c < plan.num_ctas(); ++c) s.idle_ctas += plan.queue_indptr[c] == plan.queue_indptr[c + 1];
  return s;
}

}  // namespace flashladder::planner
