// What the GPU's planner of claimed work (claimed_plan.hpp) keeps while it plans, and where: what is small or often asked for
// in the block's shared memory, the rest in scratch memory of the workspace.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "gpu/plan/plan_memory.hpp"
#include "gpu/plan/prefill_plan.hpp"

namespace flashladder::gpu {

// What lies before a request. Those of pairs of a query and a key are for a mask's words (core/mask_bits.hpp).
struct TileSums {
  std::int64_t tokens = 0, pairs = 0;
  std::int32_t tiles = 0, queries = 0;
  FL_HD constexpr TileSums& operator+=(const TileSums& b) {
    tokens += b.tokens, pairs += b.pairs, tiles += b.tiles, queries += b.queries;
    return *this;
  }
};
struct CountSum {
  std::int64_t count = 0;
  FL_HD constexpr CountSum& operator+=(const CountSum& b) {
    count += b.count;
    return *this;
  }
};
// Of some items: costs as the bits of floats, which order like the floats, and keys.
struct ItemExtent {
  std::uint32_t cheapest = ~0u, dearest = 0, ones = 0, common_ones = ~0u;
  std::int32_t least_keys = std::numeric_limits<std::int32_t>::max(), most_keys = 0;

  FL_HD static constexpr ItemExtent of(std::uint32_t cost, std::int32_t keys) { return {cost, cost, cost, cost, keys, keys}; }
  FL_HD constexpr ItemExtent& operator+=(const ItemExtent& b) {
    cheapest = cheapest < b.cheapest ? cheapest : b.cheapest, dearest = dearest > b.dearest ? dearest : b.dearest;
    ones |= b.ones, common_ones &= b.common_ones;
    least_keys = least_keys < b.least_keys ? least_keys : b.least_keys;
    most_keys = most_keys > b.most_keys ? most_keys : b.most_keys;
    return *this;
  }
  FL_HD constexpr std::uint32_t differing() const { return ones ^ common_ones; }
  FL_HD constexpr bool nearly_the_same() const {
    constexpr float nearly = 0.9f;  // costliest_first() says why
    return std::bit_cast<float>(cheapest) >= nearly * std::bit_cast<float>(dearest);
  }
};

// Where the planner keeps what it needs.
struct ClaimedPlanMemory {
  static constexpr std::int32_t digit_bits = 4, digits = 1 << digit_bits;

  void* of_threads = nullptr;      // [2, threads] sums
  ItemExtent* extent = nullptr;    // of all items
  void* of_items = nullptr;        // [threads] ItemExtent, then [digits, threads] counts of items
  TileSums* before = nullptr;      // [batch + 1]
  std::uint64_t* order = nullptr;  // [2, most_items] how cheap an item is, above its number
  std::size_t shared_bytes = 0, scratch_bytes = 0;  // what all that takes
};

// threads: of the block. Null pointers for the memory: only how much it must be.
FL_HD inline ClaimedPlanMemory claimed_plan_memory(const PrefillPlanParams& p, std::int32_t threads, std::byte* shared,
                                                   std::byte* scratch) {
  PlanPieces near{shared}, far{scratch};
  ClaimedPlanMemory m;
  m.of_threads = near.take<TileSums>(2 * threads);
  m.extent = near.take<ItemExtent>(1);
  static_assert(sizeof(ItemExtent) <= ClaimedPlanMemory::digits * sizeof(std::int32_t));
  static_assert(sizeof(ItemExtent) <= sizeof(TileSums) && sizeof(CountSum) <= sizeof(TileSums));
  m.of_items = near.take<std::int32_t>(ClaimedPlanMemory::digits * threads);
  const std::int64_t requests = std::int64_t{p.batch()} + 1;
  if (near.bytes + static_cast<std::size_t>(requests) * sizeof(TileSums) <= most_shared_bytes) {
    m.before = near.take<TileSums>(requests);
  } else {
    m.before = far.take<TileSums>(requests);
  }
  m.order = far.take<std::uint64_t>(2 * p.most_items);
  m.shared_bytes = near.bytes, m.scratch_bytes = far.bytes;
  return m;
}

}  // namespace flashladder::gpu
