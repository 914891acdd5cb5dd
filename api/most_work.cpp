#include "api/most_work.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "planner/planner.hpp"

namespace flashladder::api {
namespace {

using planner::SplitPolicy;

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();

std::int64_t most_cuts(const planner::PlanInputs& in, std::int64_t tiles_of_request, std::int64_t keys) {
  // No plan has more than max_items: what is cut down to that here still says that it is too much, and can't overflow.
  const auto cuts_every = [&](std::int64_t chunk) {
    return tiles_of_request * std::min(std::max<std::int64_t>(keys - 1, 0) / chunk, planner::max_items);
  };
  const std::int64_t between_ctas = in.machine.num_ctas() - 1;
  switch (in.policy) {
    case SplitPolicy::none: return 0;
    case SplitPolicy::fixed: return cuts_every(in.chunk_size);
    case SplitPolicy::target: return cuts_every(planner::tiers.front());
    case SplitPolicy::count: return between_ctas;
    case SplitPolicy::balanced: break;
  }
  const std::int64_t pieces = std::min(keys / in.chunk_align, planner::max_items);
  return std::min(between_ctas, tiles_of_request * std::max<std::int64_t>(pieces - 1, 0));
}

}  // namespace

planner::CaptureLimits most_work(const planner::PlanInputs& in, const DecodeLimits& limits) {
  require(limits.max_batch >= 0, "max_batch", limits.max_batch, "must not be negative");
  require(limits.max_pages >= 0 && limits.max_pages <= int32_max, "max_pages", limits.max_pages, "must be 0 .. 2^31 - 1");
  const std::int64_t tiles_of_request = std::int64_t{in.num_kv_heads} * div_up(in.group_size(), in.tile_rows());
  const std::int64_t tiles = limits.max_batch * tiles_of_request;
  const std::int64_t cuts = most_cuts(in, tiles_of_request, limits.max_pages * in.page_size);
  const std::int64_t cut_tiles = std::min(tiles, cuts), items = tiles == 0 ? 0 : tiles + cuts;
  require(items <= planner::max_items, "work items", items, "of the largest batch within the limits must be at most 2^26");
  return {.batch = limits.max_batch, .nnz_qo = limits.max_batch, .pages = limits.max_pages, .items = items,
          .merges = cut_tiles, .partial_rows = tiles == 0 ? 0 : (cuts + cut_tiles) * in.tile_rows(),
          .num_ctas = in.machine.num_ctas()};
}

}  // namespace flashladder::api
