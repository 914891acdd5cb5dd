// Batches for the GPU's planner, drawn from a seed, and how two packed plans are compared: record by record, because a record
// may have bytes that are in no field.
#pragma once

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/page_table.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "gpu/plan/decode_plan.hpp"
#include "planner/planner.hpp"

namespace flashladder::test {

struct PlannedLengths {
  std::vector<std::int32_t> kv_lens, paged_kv_indptr, paged_kv_last_page_len;
  bool page_lists = false;
  std::int32_t page_size = 16, max_pages = 0, most_keys = 0;
  std::int32_t num_kv_heads = 8, group_size = 4, query_tile = 4, window_left = -1;
  std::int32_t queries = 1;  // of every request; several are causal, and one tile
  std::vector<std::int32_t> qo_lens{};
  SplitPolicy policy = SplitPolicy::even;
  std::int32_t chunk_size = 0, per_item = 80, num_ctas = 264, counters = 1;

  planner::PlanInputs inputs() const {
    planner::PlanInputs in{.qo_lens = qo_lens, .kv_lens = kv_lens, .num_qo_heads = num_kv_heads * group_size, .num_kv_heads = num_kv_heads,
            .page_size = page_size, .mask = queries > 1 ? MaskMode::causal : MaskMode::none,
            .window_left = window_left, .query_tile = query_tile, .policy = policy,
            .chunk_size = chunk_size, .machine = {num_ctas, 1},
            .cost = {.per_item = static_cast<double>(per_item)}};
    return in;
  }
  PageTable host_table() const {
    const auto batch = static_cast<std::int32_t>(kv_lens.size());
    if (!page_lists) return block_table(nullptr, kv_lens.data(), max_pages, page_size, batch);
    return {paged_kv_indptr.data(), nullptr, paged_kv_last_page_len.data(), page_size, batch};
  }
};

struct PackedPlan {
  gpu::PackedShape shape;
  std::vector<std::byte> bytes;
  gpu::PackedView view;

  explicit PackedPlan(const gpu::PackedShape& shape_)
      : shape(shape_), bytes(gpu::packed_bytes(shape_) + slack, std::byte{0xff}),
        view(gpu::view_of(shape_, bytes.data())) {}
  static constexpr std::size_t slack = 4096;  // a mutant may write behind its block
};

inline PackedPlan host_plan(const PlannedLengths& batch) {
  const Plan plan = planner::make_plan(batch.inputs());
  gpu::PackedShape shape = gpu::shape_of(plan);
  shape.counters = batch.counters;
  PackedPlan packed(shape);
  gpu::pack(plan, {batch.page_size, batch.page_lists ? 0 : batch.max_pages}, shape, packed.bytes);
  return packed;
}

// The planner's parameters for the same batch, into a block of the same shape.
inline gpu::DecodePlanParams device_params(const PlannedLengths& batch, const PageTable& table, const PackedPlan& out) {
  return {.table = table, .most_keys = batch.most_keys, .num_kv_heads = batch.num_kv_heads, .group_size = batch.group_size,
          .query_tile = batch.query_tile, .queries = batch.queries, .window_left = batch.window_left,
          .even = batch.policy == SplitPolicy::even,
          .chunk = batch.policy == SplitPolicy::fixed ? batch.chunk_size : 0, .per_item = batch.per_item, .num_ctas = batch.num_ctas, .counters = batch.counters,
          .most_work = out.shape.items, .view = out.view};
}

// "" or the first record in which they differ.
inline std::string difference(const PackedPlan& expected, const PackedPlan& actual) {
  const auto at = [](const char* what, std::int64_t i) { return std::string(what) + " " + std::to_string(i); };
  if (*expected.view.header != *actual.view.header) return "header";
  const gpu::PackedHeader& header = *expected.view.header;
  for (std::int32_t i = 0; !expected.shape.claimed && i < expected.shape.num_ctas; ++i) {
    if (expected.view.queues[i] != actual.view.queues[i]) return at("queue", i);
  }
  for (std::int32_t i = 0; i < header.num_work / header.copies; ++i) {
    if (expected.view.items[i] != actual.view.items[i]) return at("item", i);
  }
  for (std::int32_t i = 0; i < header.merges; ++i) {
    if (expected.view.merges[i] != actual.view.merges[i]) return at("merge", i);
  }
  for (std::int32_t i = 0; i < header.merges * expected.shape.counters + header.groups; ++i) {
    if (expected.view.arrivals[i] != 0 || actual.view.arrivals[i] != 0) return at("counter", i);
  }
  return "";
}

inline std::string describe(const PlannedLengths& b) {
  std::string text = std::string(name_of(b.policy)) + ", heads " + std::to_string(b.num_kv_heads) + " x " +
                     std::to_string(b.group_size) + " x " + std::to_string(b.queries) + ", CTAs " + std::to_string(b.num_ctas) + ", lengths";
  for (std::size_t i = 0; i < b.kv_lens.size() && i < 20; ++i) text += " " + std::to_string(b.kv_lens[i]);
  return text + (b.kv_lens.size() > 20 ? " ... " + std::to_string(b.kv_lens.size()) : "");
}

// Uniform, ragged, empty, one long among many short ones; a few requests or thousands; every size a kernel may have.
inline PlannedLengths random_lengths(std::uint64_t seed) {
  std::mt19937_64 bits(seed);
  const auto draw = [&](std::int64_t low, std::int64_t high) {
    return static_cast<std::int32_t>(low + static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(high - low + 1)));
  };
  PlannedLengths b;
  const SplitPolicy policies[] = {SplitPolicy::even, SplitPolicy::even, SplitPolicy::fixed, SplitPolicy::none};
  b.policy = policies[draw(0, 3)];
  const std::int32_t size = draw(0, 30);
  const std::int32_t batch = size == 0 ? draw(0, 3000) : size < 8 ? draw(65, 300) : draw(0, size < 16 ? 4 : 64);
  const std::int32_t kinds = draw(0, 4), longest = 1 << draw(0, batch < 5 ? 21 : 17), uniform = draw(0, longest);
  for (std::int32_t r = 0; r < batch; ++r) {
    const std::int32_t empty = draw(0, 9) == 0 ? 0 : -1, alike = kinds == 0 ? uniform : draw(0, longest);
    const std::int32_t one_long = kinds == 1 && draw(0, 19) > 0 ? draw(0, 80) : alike;
    b.kv_lens.push_back(kinds < 4 && empty == 0 ? 0 : one_long);
  }
  constexpr std::int32_t int32_max = std::numeric_limits<std::int32_t>::max();
  if (draw(0, 60) == 0 && batch > 0 && batch < 65) b.kv_lens[static_cast<std::size_t>(draw(0, batch - 1))] = int32_max;
  b.most_keys = int32_max;
  b.page_size = draw(1, 64);
  b.max_pages = draw(1, 300);
  b.num_kv_heads = draw(0, 3) == 0 ? draw(1, 48) : 1 << draw(0, 5);
  b.group_size = draw(1, 20);
  b.query_tile = draw(0, 2) == 0 ? draw(1, 20) : b.group_size;
  b.window_left = draw(0, 3) == 0 ? draw(0, longest) : -1;
  b.per_item = draw(0, 2) == 0 ? draw(1, 400) : draw(0, 1) == 0 ? 80 : 1280;
  b.num_ctas = draw(0, 2) == 0 ? draw(1, 300) : 264;
  b.counters = draw(0, 3) == 0 ? b.query_tile : 1;
  if (b.query_tile == b.group_size && draw(0, 2) == 0) {
    b.queries = draw(2, 6), b.query_tile = b.queries * b.group_size;
    b.qo_lens.assign(b.kv_lens.size(), b.queries);
  }
  std::int64_t keys = 0;  // of all heads and tiles; not more items than a test has time for
  for (const std::int32_t len : b.kv_lens) keys += len;
  keys *= std::int64_t{b.num_kv_heads} * div_up(b.group_size, b.query_tile);
  b.chunk_size = static_cast<std::int32_t>(std::max<std::int64_t>(64 * draw(1, 16), keys / 100'000 / 64 * 64));
  b.page_lists = draw(0, 1) == 0;
  if (!b.page_lists) return b;
  std::int64_t pages = 0;
  b.paged_kv_indptr.push_back(0);
  for (const std::int32_t len : b.kv_lens) {
    pages += pages_for(len, b.page_size);
    if (pages > int32_max) return b.page_lists = false, b;  // too many for page lists
    b.paged_kv_indptr.push_back(static_cast<std::int32_t>(pages));
    b.paged_kv_last_page_len.push_back(last_page_len_for(len, b.page_size));
  }
  return b;
}

}  // namespace flashladder::test
