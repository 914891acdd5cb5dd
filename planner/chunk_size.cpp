#include "planner/chunk_size.hpp"

#include "planner/planner.hpp"
#include "planner/tiles.hpp"

namespace flashladder::planner {
namespace {

// FlashInfer's search: more items than CTAs would start a second wave, fewer would leave CTAs idle. It stops below
// min_chunk, where an item is mostly overhead, and does not cut at all if uncut tiles already fill the grid.
std::int32_t smallest_chunk_that_fits_the_grid(const PlanInputs& in) {
  const std::int64_t num_ctas = in.machine.num_ctas(), align = in.chunk_align;
  if (count_items(in, 0) >= num_ctas) return 0;
  std::int64_t longest = 0;
  for (const PartShape& part : PartShapes(in)) {
    for_each_tile(in, part, [&](const Tile& t) {
      longest = std::max<std::int64_t>(longest, t.keys.end - align_down(t.keys.begin, in.chunk_align));
    });
  }

  std::int64_t low = div_up<std::int64_t>(in.min_chunk, align), high = std::max(low, div_up(longest, align));
  while (low < high) {  // in units of align; high always fits
    const std::int64_t middle = (low + high) / 2;
    if (count_items(in, middle * align) <= num_ctas) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low * align < longest ? static_cast<std::int32_t>(low * align) : 0;
}

std::int32_t largest_tier_with_enough_units(const PlanInputs& in) {
  const auto enough = [&](std::int32_t tier) { return count_items(in, tier) >= in.target_units; };
  const auto first_too_few = std::partition_point(tiers.begin(), tiers.end(), enough);
  return first_too_few == tiers.begin() ? tiers.front() : *(first_too_few - 1);
}

}  // namespace

std::int64_t count_tiles(const PlanInputs& in) {
  std::int64_t tiles = 0;
  for (const PartShape& part : PartShapes(in)) {
    for (std::int32_t b = 0; b < in.batch() && tiles <= max_items; ++b) {
      if (part.takes(in.qo_len(b))) tiles += std::int64_t{div_up(in.qo_len(b) * part.pack, part.query_tile)} * part.heads;
    }
  }
  return tiles;
}

std::int64_t count_items(const PlanInputs& in, std::int64_t chunk) {
  std::int64_t items = 0;
  for (const PartShape& part : PartShapes(in)) {
    std::int64_t pieces = 0;
    for_each_tile(in, part, [&](const Tile& t) {
      const bool whole = chunk == 0 || t.keys.empty();
      pieces += whole ? 1 : div_up<std::int64_t>(t.keys.end - align_down(t.keys.begin, in.chunk_align), chunk);
    });
    items += pieces * part.heads;
  }
  return items;
}

std::int32_t choose_chunk_size(const PlanInputs& in) {
  switch (in.policy) {
    case SplitPolicy::fixed: return in.chunk_size;
    case SplitPolicy::count: return smallest_chunk_that_fits_the_grid(in);
    case SplitPolicy::target: return largest_tier_with_enough_units(in);
    case SplitPolicy::none:
    case SplitPolicy::balanced:
    case SplitPolicy::even: break;
  }
  return 0;
}

}  // namespace flashladder::planner
