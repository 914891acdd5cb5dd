// Policy none for CTAs that claim their work, on the GPU (planner/planner.cpp and costliest_first() of list_schedule.cpp are
// the host's).
//
//   1  sums over the requests say where each one's queries begin, and then its tiles, of which each is an item
//   2  every item's cost, with its number behind it
//   3  unless all cost nearly the same, they are sorted: digit by digit from the lowest, each time by counting. Each thread
//      counts a stretch of items, sums over digits and threads say where each thread's items of a digit go, and so equal
//      ones stay in their order. Only those bits are looked at in which costs differ
//   4  all records are written in any order
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "core/mask_bits.hpp"
#include "gpu/attention/sections.hpp"
#include "gpu/plan/block_sums.hpp"
#include "gpu/plan/claimed_memory.hpp"
#include "gpu/plan/prefill_plan.hpp"

namespace flashladder::gpu {

class ClaimedPlan {
 public:
  FL_HD ClaimedPlan(const PrefillPlanParams& p, const ClaimedPlanMemory& memory)
      : p_(p), memory_(memory), before_(memory.before) {}

  template <class Block>
  FL_HD void run(Block& block) {
    count_tiles(block);
    items_ = before_[p_.batch()].tiles;
    measure(block);
    const ItemExtent all = *memory_.extent;
    const bool as_they_are = items_ == 0 || all.nearly_the_same();
    const std::uint64_t* order = as_they_are ? memory_.order : sorted(block, all.differing());
    block.each([&](std::int32_t t) {
      if (t == 0) write_header(all);
      for (std::int32_t at = t; at < items_; at += Block::threads) {
        p_.view.items[at] = item(static_cast<std::int32_t>(order[at] & ~0u));
      }
    });
  }

 private:
  template <class Block>
  FL_HD void count_tiles(Block& block) {
    exclusive_sums(
        block, static_cast<CountSum*>(memory_.of_threads), p_.batch(),
        [&](std::int32_t request) { return CountSum{p_.qo_len(request)}; },
        [&](std::int32_t request, const CountSum& sum) {
          before_[request].queries = PrefillPlanParams::clamped(sum.count, p_.nnz_qo);
        });
    exclusive_sums(
        block, static_cast<TileSums*>(memory_.of_threads), p_.batch(),
        [&](std::int32_t request) {
          const std::int32_t queries = qo_len(request), keys = p_.kv_len(request);
          return TileSums{keys, std::int64_t{queries} * keys, p_.tiles(queries)};
        },
        [&](std::int32_t request, const TileSums& sums) {
          TileSums& before = before_[request];
          before.tokens = sums.tokens, before.pairs = sums.pairs, before.tiles = sums.tiles;
        });
  }
  FL_HD std::int32_t qo_len(std::int32_t request) const { return before_[request + 1].queries - before_[request].queries; }
  FL_HD std::int32_t kv_len(std::int32_t request) const {
    return static_cast<std::int32_t>(before_[request + 1].tokens - before_[request].tokens);
  }

  // Item `index` of copy 0, in the order of requests and rows.
  FL_HD PackedItem item(std::int32_t index) const {
    const std::int32_t request = last_before(0, p_.batch(), [&](std::int32_t r) { return before_[r].tiles <= index; });
    const TileSums& before = before_[request];
    const std::int32_t queries = qo_len(request), keys = kv_len(request), rows_of_request = queries * p_.pack;
    const std::int32_t begin = (index - before.tiles) * p_.query_tile, left = rows_of_request - begin;
    const Range rows{begin, begin + (left < p_.query_tile ? left : p_.query_tile)};
    const Range seen_by{rows.begin / p_.pack, (rows.end - 1) / p_.pack + 1};
    return {.query = before.queries, .head = 0, .rows = rows, .keys = p_.keys(seen_by, queries, keys), .kv_head = 0,
            .first_page = p_.table.first_page(request), .merge = -1, .slot = 0,
            .request = {keys, keys - queries, mask_words(before.queries, before.pairs)}};
  }
  // planner::CostModel::item(). All of it is exact but for the rounding to a float.
  FL_HD std::uint32_t cost(const PackedItem& item) const {
    const std::int32_t rows = item.rows.size(), bound = p_.memory_bound_rows;
    const double per_key = rows > bound ? static_cast<double>(rows) / bound : 1.0;
    return std::bit_cast<std::uint32_t>(static_cast<float>(p_.per_item + item.keys.size() * per_key));
  }

  // The order before it is sorted, and the extent of all items.
  template <class Block>
  FL_HD void measure(Block& block) {
    auto* const extents = static_cast<ItemExtent*>(memory_.of_items);
    block.each([&](std::int32_t t) {
      ItemExtent mine;
      for (std::int32_t i = t; i < items_; i += Block::threads) {
        const PackedItem one = item(i);
        const std::uint32_t bits = cost(one);
        mine += ItemExtent::of(bits, one.keys.size());
        memory_.order[i] = std::uint64_t{~bits} << 32 | static_cast<std::uint32_t>(i);
      }
      extents[t] = mine;
    });
    exclusive_sums(
        block, static_cast<ItemExtent*>(memory_.of_threads), Block::threads, [&](std::int32_t t) { return extents[t]; },
        [&](std::int32_t t, const ItemExtent& all) {
          if (t == Block::threads) *memory_.extent = all;
        });
  }

  // The cheapest last, equal ones in their order. differing: bits of a cost, at least one.
  template <class Block>
  FL_HD const std::uint64_t* sorted(Block& block, std::uint32_t differing) {
    std::uint64_t *from = memory_.order, *to = from + p_.most_items;
    std::int32_t low = 0;
    while ((differing >> low & 1) == 0) ++low;
    for (; low < 32 && differing >> low != 0; low += ClaimedPlanMemory::digit_bits) {
      sort_by_digit(block, from, to, 32 + low);
      std::uint64_t* const sorted = to;
      to = from, from = sorted;
    }
    return from;
  }
  template <class Block>
  FL_HD void sort_by_digit(Block& block, const std::uint64_t* from, std::uint64_t* to, std::int32_t low) {
    constexpr std::int32_t digits = ClaimedPlanMemory::digits, threads = Block::threads;
    auto* const places = static_cast<std::int32_t*>(memory_.of_items);  // how many there are, then where the next one goes
    const std::int32_t stretch = div_up(items_, threads);
    const auto end_of = [&](std::int32_t t) { return (t + 1) * stretch < items_ ? (t + 1) * stretch : items_; };
    const auto place = [&](std::uint64_t value, std::int32_t t) -> std::int32_t& {
      return places[static_cast<std::int32_t>(value >> low & (digits - 1)) * threads + t];
    };
    block.each([&](std::int32_t t) {
      for (std::int32_t digit = 0; digit < digits; ++digit) places[digit * threads + t] = 0;
      for (std::int32_t i = t * stretch; i < end_of(t); ++i) ++place(from[i], t);
    });
    exclusive_sums(
        block, static_cast<CountSum*>(memory_.of_threads), digits * threads,
        [&](std::int32_t i) { return CountSum{places[i]}; },
        [&](std::int32_t i, const CountSum& sum) {
          if (i < digits * threads) places[i] = static_cast<std::int32_t>(sum.count);
        });
    block.each([&](std::int32_t t) {
      for (std::int32_t i = t * stretch; i < end_of(t); ++i) to[place(from[i], t)++] = from[i];
    });
  }

  FL_HD void write_header(const ItemExtent& all) const {
    SectionedWork work{.copies = p_.copies(), .pack = p_.pack, .group_size = p_.group_size, .head_dim_vo = p_.head_dim_vo};
    work.num_ctas = p_.num_ctas, work.batch = p_.batch(), work.tiles = work.items = items_;
    work.tokens = before_[p_.batch()].tokens, work.least_keys = all.least_keys, work.most_keys = all.most_keys;
    const Sections sections = work.sections();
    *p_.view.header = {.claimed = 0, .num_work = items_ * p_.copies(), .copies = p_.copies(), .merges = 0, .partial_rows = 0,
                       .groups = 0, .section = sections.width, .narrow = sections.narrow};
  }

  const PrefillPlanParams& p_;
  const ClaimedPlanMemory& memory_;
  TileSums* before_;        // [batch + 1]
  std::int32_t items_ = 0;  // of one copy
};

template <class Block>
FL_HD void run_claimed_plan(Block& block, const PrefillPlanParams& params, std::byte* shared, std::byte* scratch) {
  const ClaimedPlanMemory memory = claimed_plan_memory(params, Block::threads, shared, scratch);
  ClaimedPlan(params, memory).run(block);
}

}  // namespace flashladder::gpu
