// The records of a packed plan, as both of the GPU's planners write them: pack() of packed_plan.cpp is the host's.
#pragma once

#include <cstdint>

#include "core/mask_bits.hpp"
#include "gpu/plan/plan_memory.hpp"

namespace flashladder::gpu {

// A tile of one head, or a piece of it. tokens: of all requests before.
struct TilePlace {
  std::int32_t request = 0, head = 0;
  Range rows;
  std::int32_t kv_len = 0, queries = 1;
  std::int64_t tokens = 0;

  FL_HD constexpr std::int32_t query() const { return request * queries; }  // the request's first
  FL_HD constexpr RequestShape shape() const {
    return {kv_len, kv_len - queries, mask_words(query(), tokens * queries)};
  }
};

FL_HD constexpr PackedItem packed_item(const PageTable& table, const TilePlace& at, Range keys, std::int32_t merge,
                                       std::int32_t slot) {
  return {.query = at.query(), .head = at.head, .rows = at.rows, .keys = keys, .kv_head = at.head,
          .first_page = table.first_page(at.request), .merge = merge, .slot = merge < 0 ? 0 : slot, .request = at.shape()};
}
FL_HD constexpr PackedMerge packed_merge(const TilePlace& at, std::int32_t first_slot, std::int32_t num_partials,
                                         std::int32_t first_group) {
  return {.query = at.query(), .head = at.head, .rows = at.rows, .first_slot = first_slot, .num_partials = num_partials,
          .first_group = first_group, .request = at.shape(), .padding = {}};
}

// Groups that so many partials of a tile meet in.
FL_HD constexpr std::int32_t groups_of(std::int32_t num_partials) {
  PackedMerge merge{};
  merge.num_partials = num_partials;
  return merge.num_groups();
}

// Counters of merges come first, those of groups behind them, each for all copies.
FL_HD constexpr std::int32_t first_group(const DecodePlanParams& p, const WorkSums& all, std::int32_t copies) {
  return all.merges * copies * p.counters;
}

// Header and counters, by the threads of a block that stride through them. all: of one copy.
FL_HD constexpr void write_header(const DecodePlanParams& p, const WorkSums& all, std::int32_t copies, std::int32_t thread,
                                  std::int32_t threads) {
  if (thread == 0) {
    *p.view.header = {.claimed = 0, .num_work = all.items * copies, .copies = 1, .merges = all.merges * copies,
                      .partial_rows = all.partial_rows, .groups = all.groups * copies, .section = 1, .narrow = 0};
  }
  const std::int32_t counters = first_group(p, all, copies) + all.groups * copies;
  FL_ROLLED for (std::int32_t i = thread; i < counters; i += threads) p.view.arrivals[i] = 0;
}

}  // namespace flashladder::gpu
