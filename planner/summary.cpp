// What a plan looks like from above: the numbers that compare policies on one batch.
#include <algorithm>

#include "planner/planner.hpp"

namespace flashladder::planner {

PlanSummary summarize(const Plan& plan) {
  PlanSummary s{.items = plan.num_work(), .merges = plan.num_merges(), .partial_rows = plan.partial_rows,
                .workspace_bytes = plan.workspace_bytes()};
  const auto count_tiles = [&](std::int64_t tiles, std::int32_t chunks) {
    if (tiles == 0) return;
    s.chunks_min = s.tiles == 0 ? chunks : std::min(s.chunks_min, chunks);
    s.chunks_max = std::max(s.chunks_max, chunks);
    s.tiles += tiles;
  };
  for (const PlanPart& part : plan.parts) {
    std::int64_t whole = 0;
    for (const WorkItem& item : part.items) {
      s.tier_counts[item.tier] += part.copies;
      whole += item.whole();
    }
    count_tiles(whole * part.copies, 1);
    for (const Merge& m : part.merges) count_tiles(part.copies, m.num_partials);
  }
  if (s.tiles > 0) s.chunks_avg = static_cast<double>(s.items) / static_cast<double>(s.tiles);

  const double mean = plan.total_cost / static_cast<double>(plan.num_ctas());
  if (plan.makespan > 0) s.utilisation = mean / plan.makespan;
  s.tail = std::max(0.0, plan.makespan - mean);  // mean may be rounded up past an even makespan
  for (std::int32_t c = 0; c < plan.num_ctas(); ++c) {
    const auto empty = [c](const PlanPart& part) { return part.queue_indptr[c] == part.queue_indptr[c + 1]; };
    s.idle_ctas += std::ranges::all_of(plan.parts, empty);
  }
  return s;
}

std::vector<float> work_costs(const Plan& plan, const CostModel& cost) {
  std::vector<float> costs;
  for (const PlanPart& part : plan.parts) {
    for (const WorkItem& item : part.items) {
      const auto one = static_cast<float>(cost.item(item.rows.size(), item.keys.size()));
      costs.insert(costs.end(), static_cast<std::size_t>(part.copies), one);
    }
  }
  return costs;
}

}  // namespace flashladder::planner
