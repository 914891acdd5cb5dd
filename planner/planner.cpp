#include "planner/planner.hpp"

#include <algorithm>
#include <numeric>

#include "core/error.hpp"
#include "planner/chunk_size.hpp"
#include "planner/even_cuts.hpp"
#include "planner/list_schedule.hpp"
#include "planner/stream_k.hpp"
#include "planner/tiles.hpp"

namespace flashladder::planner {
namespace {

void reset(const PlanInputs& in, const PartShapes& shapes, Plan& plan) {
  plan.batch = in.batch();
  plan.kv_lens.assign(in.kv_lens.begin(), in.kv_lens.end());
  plan.qo_lens.assign(in.kv_lens.size(), 1);
  std::copy(in.qo_lens.begin(), in.qo_lens.end(), plan.qo_lens.begin());
  plan.num_qo_heads = in.num_qo_heads;
  plan.num_kv_heads = in.num_kv_heads;
  plan.head_dim_vo = in.head_dim_vo;
  plan.chunk_size = 0;
  plan.partial_rows = 0;
  plan.cta_cost.assign(static_cast<std::size_t>(in.machine.num_ctas()), 0.0f);
  plan.parts.resize(shapes.size());
  auto shape = shapes.begin();
  for (PlanPart& part : plan.parts) {
    part.query_tile = shape->query_tile;
    part.pack = shape->pack;
    part.claimed = in.claimed;
    part.partial_rows = 0;
    part.items.clear();
    part.merges.clear();
    part.queue.clear();
    part.queue_indptr.assign(plan.cta_cost.size() + 1, 0);
    ++shape;
  }
}

std::uint8_t tier_of(std::int32_t keys) {
  return static_cast<std::uint8_t>(std::lower_bound(tiers.begin(), tiers.end() - 1, keys) - tiers.begin());
}

// One item for every chunk of every tile, for all heads alike; chunk 0 = uncut.
void cut_into_chunks(const PlanInputs& in, const PartShape& shape, std::int32_t chunk, const Plan& plan, PlanPart& part) {
  const bool tiered = in.policy == SplitPolicy::target;
  part.copies = shape.heads;
  for_each_tile(in, shape, [&](const Tile& tile) {
    const std::size_t first_piece = part.items.size();
    const std::int32_t pieces = chunk_pieces(tile.keys, chunk, in.chunk_align);
    for (std::int32_t piece = 0; piece < pieces; ++piece) {
      const Range keys = chunk_piece(tile.keys, chunk, in.chunk_align, piece);
      const std::uint8_t tier = tiered ? tier_of(keys.size()) : 0;
      part.items.push_back({.request = tile.request, .rows = tile.rows, .keys = keys, .tier = tier, .flags = 0});
    }
    close_tile(plan, part, first_piece);
  });
}

// The work of a part, and who does it: behind that of the parts before.
void plan_part(const PlanInputs& in, const PartShape& shape, std::int32_t chunk, Plan& plan, PlanPart& part) {
  if (in.policy == SplitPolicy::balanced) stream_k(in, shape, plan, part);
  else if (in.policy == SplitPolicy::even) even_cuts(in, shape, plan, part);
  else cut_into_chunks(in, shape, chunk, plan, part);
  if (in.claimed) costliest_first(in, part);
  if (in.claimed ? in.predicted : !cuts_a_line(in.policy)) list_schedule(in, plan, part);
  plan.partial_rows += part.partial_rows * part.copies;
}

// The part of one query where it has queues of its own. The plan's CTAs claim, and keep no account of it.
void plan_queues(const PlanInputs& in, const PartShape& shape, Plan& plan, PlanPart& part) {
  PlanInputs queues = in;
  queues.policy = SplitPolicy::balanced, queues.claimed = false;
  queues.machine = {in.decode_queues, 1}, queues.cost = in.decode_cost;
  thread_local std::vector<float> ctas;  // outlives the call, so that planning again allocates nothing
  ctas.assign(static_cast<std::size_t>(in.decode_queues), 0.0f);
  part.claimed = false;
  ctas.swap(plan.cta_cost);
  plan_part(queues, shape, 0, plan, part);
  ctas.swap(plan.cta_cost);
}

void require_few_items(std::int64_t items) {
  require(items <= max_items, "work items", items, "must be at most 2^26: use larger chunks or query tiles");
}

}  // namespace

void make_plan(const PlanInputs& in, Plan& out) {
  validate(in);
  const std::int64_t tiles = count_tiles(in);
  require_few_items(tiles);
  const std::int32_t chunk = choose_chunk_size(in);
  const std::int64_t items = chunk == 0 ? tiles : count_items(in, chunk);
  require_few_items(items + (cuts_a_line(in.policy) ? in.machine.num_ctas() : 0) + in.decode_queues);
  const PartShapes shapes(in);
  reset(in, shapes, out);
  out.chunk_size = chunk;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const bool has_queues = i == 0 && in.decode_queues > 0;
    if (has_queues) plan_queues(in, shapes.begin()[i], out, out.parts[i]);
    else plan_part(in, shapes.begin()[i], chunk, out, out.parts[i]);
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
