#include "planner/planner.hpp"

#include <algorithm>
#include <numeric>

#include "core/error.hpp"
#include "planner/chunk_size.hpp"
#include "planner/list_schedule.hpp"
#include "planner/stream_k.hpp"
#include "planner/tiles.hpp"

namespace flashladder::planner {
namespace {

void reset(const PlanInputs& in, Plan& plan) {
  plan.batch = in.batch();
  plan.kv_lens.assign(in.kv_lens.begin(), in.kv_lens.end());
  plan.qo_lens.assign(in.kv_lens.size(), 1);
  std::copy(in.qo_lens.begin(), in.qo_lens.end(), plan.qo_lens.begin());
  plan.group_size = in.group_size();
  plan.num_kv_heads = in.num_kv_heads;
  plan.head_dim_vo = in.head_dim_vo;
  plan.query_tile = in.tile_rows();
  plan.chunk_size = 0;
  plan.items.clear();
  plan.merges.clear();
  plan.partial_rows = 0;
}

std::uint8_t tier_of(std::int32_t keys) {
  return static_cast<std::uint8_t>(std::lower_bound(tiers.begin(), tiers.end() - 1, keys) - tiers.begin());
}

// One item for every chunk of every tile; chunk 0 = uncut.
void cut_into_chunks(const PlanInputs& in, std::int32_t chunk, Plan& plan) {
  const bool tiered = in.policy == SplitPolicy::target;
  const std::int64_t step = chunk > 0 ? chunk : std::int64_t{1} << 31;
  for_each_tile(in, [&](const Tile& tile) {
    for (std::int32_t head = 0; head < in.num_kv_heads; ++head) {
      const std::size_t first_piece = plan.items.size();
      std::int64_t cut = chunk > 0 ? align_down(tile.keys.begin, in.chunk_align) : 0;
      std::int32_t begin = tile.keys.begin;
      do {
        cut += step;
        const Range keys{begin, static_cast<std::int32_t>(std::min<std::int64_t>(cut, tile.keys.end))};
        const std::uint8_t tier = tiered ? tier_of(keys.size()) : 0;
        plan.items.push_back(
            {.request = tile.request, .kv_head = head, .rows = tile.rows, .keys = keys, .tier = tier, .flags = 0});
        begin = keys.end;
      } while (begin < tile.keys.end);
      close_tile(plan, first_piece);
    }
  });
}

}  // namespace

void make_plan(const PlanInputs& in, Plan& out) {
  validate(in);
  reset(in, out);
  const bool balanced = in.policy == SplitPolicy::balanced;
  const std::int32_t chunk = choose_chunk_size(in);
  const std::int64_t most_items = count_items(in, chunk) + (balanced ? in.machine.num_ctas() : 0);
  require(most_items <= max_items, "work items", most_items, "must be at most 2^26: use larger chunks or query tiles");
  out.items.reserve(static_cast<std::size_t>(most_items));
  if (balanced) {
    stream_k(in, out);
  } else {
    out.chunk_size = chunk;
    cut_into_chunks(in, chunk, out);
    list_schedule(in, out);
  }
  out.total_cost = static_cast<float>(std::accumulate(out.cta_cost.begin(), out.cta_cost.end(), 0.0));
  out.makespan = *std::max_element(out.cta_cost.begin(), out.cta_cost.end());
  if (!in.capture) return;
  const std::string problem = exceeds(out, in, *in.capture);
  require(problem.empty(), "plan", problem, "must stay within the captured limits");
}

Plan make_plan(const PlanInputs& in) {
  Plan plan;
  make_plan(in, plan);
  return plan;
}

}  // namespace flashladder::planner
