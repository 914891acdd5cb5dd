#include "api/most_work.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/mask_bits.hpp"
#include "planner/planner.hpp"

namespace flashladder::api {
namespace {

using planner::SplitPolicy;

// Where equal shares end.
std::int64_t most_cuts_of_tile(const planner::PlanInputs& in, std::int64_t keys) {
  return std::max<std::int64_t>(std::min(keys / in.chunk_align, planner::max_items) - 1, 0);
}

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
    case SplitPolicy::balanced:
    case SplitPolicy::even: break;
  }
  return std::min(between_ctas, tiles_of_request * most_cuts_of_tile(in, keys));
}

std::int64_t most_mask_words(std::int64_t nnz_qo, std::int64_t most_len, std::int64_t keys) {
  constexpr std::int64_t most_bytes = std::int64_t{1} << 40;
  require(keys == 0 || most_len <= most_bytes / keys, "max_qo_len", most_len,
          "with max_pages makes a custom mask of more than 2^40 bytes (without max_qo_len: max_nnz_qo)");
  return mask_words(nnz_qo, most_len * keys);
}

}  // namespace

planner::CaptureLimits most_work(const planner::PlanInputs& in, const AttentionLimits& limits) {
  const std::int64_t pack = in.packed_heads();
  const std::int64_t nnz_qo = limits.max_nnz_qo.value_or(limits.max_batch), rows = nnz_qo * pack;
  const std::int64_t most_len = limits.max_qo_len ? std::min<std::int64_t>(*limits.max_qo_len, nnz_qo) : nnz_qo;
  const std::int64_t most_rows = limits.max_nnz_qo ? most_len * pack : pack;  // packed, of one request and head
  const std::int64_t requests = std::min<std::int64_t>(limits.max_batch, nnz_qo);
  const std::int64_t height = in.tile_rows(), heads = in.num_heads(in.packed_heads());
  // Decode: all requests have the same tiles.
  const std::int64_t tiles_of_request = heads * div_up(most_rows, height);
  // In a part of their own those of one query have tiles of their own, and no others.
  const std::int64_t of_one =
      in.decode_queues == 0 ? 0 : in.num_kv_heads * div_up<std::int64_t>(in.group_size(), in.decode_tile);
  const std::int64_t tiles = requests == 0 ? 0
                             : limits.max_nnz_qo
                                 ? requests * of_one + std::min(heads * (requests + (rows - requests) / height),
                                                                requests * tiles_of_request)
                                 : requests * tiles_of_request;
  require(tiles <= planner::max_items, "work items", tiles, "of the largest batch within the limits must be at most 2^26");
  const std::int64_t keys = limits.max_pages * in.page_size;
  const std::int64_t between_queues = std::max(in.decode_queues - 1, 0);  // whatever the policy of the others is
  const std::int64_t cuts = most_cuts(in, tiles_of_request, keys) +
                            std::min(between_queues, of_one * most_cuts_of_tile(in, keys));
  const std::int64_t cut_tiles = std::min(tiles, cuts), items = tiles == 0 ? 0 : tiles + cuts;
  require(items <= planner::max_items, "work items", items, "of the largest batch within the limits must be at most 2^26");
  const std::int64_t words =
      in.mask == MaskMode::custom ? most_mask_words(nnz_qo, limits.max_nnz_qo ? most_len : 1, keys) : 0;
  return {.batch = limits.max_batch, .nnz_qo = nnz_qo, .pages = limits.max_pages, .items = items, .merges = cut_tiles,
          .partial_rows = tiles == 0 ? 0 : (cuts + cut_tiles) * height, .num_ctas = in.machine.num_ctas(),
          .mask_words = words};
}

}  // namespace flashladder::api
