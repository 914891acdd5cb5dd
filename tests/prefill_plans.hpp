// Batches for the GPU's planner of a prefill, drawn from a seed, planned by the host and by the planner's code on the host.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gpu/plan/claimed_memory.hpp"
#include "tests/device_plans.hpp"
#include "tests/serial_block.hpp"

namespace flashladder::test {

struct PlannedPrefill {
  std::vector<std::int32_t> qo_lens, kv_lens, qo_indptr, paged_kv_indptr, paged_kv_last_page_len;
  bool page_lists = false, by_lens = false;  // by_lens: the planner is given qo_lens, not qo_indptr
  std::int32_t page_size = 16, max_pages = 0, most_keys = 0, most_queries = 0, nnz_qo = 0;
  std::int32_t num_kv_heads = 8, group_size = 4, pack = 1, query_tile = 128, head_dim_vo = 128;
  MaskMode mask = MaskMode::causal;
  std::int32_t window_left = -1, per_item = 64, num_ctas = 132;

  // Of any lengths: what else they say.
  void fill() {
    qo_indptr.assign(1, 0), paged_kv_indptr.assign(1, 0), paged_kv_last_page_len.clear();
    for (const std::int32_t len : qo_lens) qo_indptr.push_back(qo_indptr.back() + len);
    std::int64_t pages = 0;
    for (const std::int32_t len : kv_lens) {
      pages += pages_for(len, page_size);
      if (pages > std::numeric_limits<std::int32_t>::max()) page_lists = false;  // too many for them
      paged_kv_indptr.push_back(static_cast<std::int32_t>(pages));
      paged_kv_last_page_len.push_back(last_page_len_for(len, page_size));
    }
  }
  planner::PlanInputs inputs() const {
    return {.qo_lens = qo_lens, .kv_lens = kv_lens, .num_qo_heads = num_kv_heads * group_size, .num_kv_heads = num_kv_heads,
            .head_dim_vo = head_dim_vo, .page_size = page_size, .mask = mask, .window_left = window_left,
            .query_tile = query_tile, .pack = pack, .claimed = true, .predicted = false, .policy = SplitPolicy::none,
            .machine = {num_ctas, 1}, .cost = {.per_item = static_cast<double>(per_item)}};
  }
  PageTable host_table() const {
    const auto batch = static_cast<std::int32_t>(kv_lens.size());
    if (!page_lists) return block_table(nullptr, kv_lens.data(), max_pages, page_size, batch);
    return {paged_kv_indptr.data(), nullptr, paged_kv_last_page_len.data(), page_size, batch};
  }
};

inline PackedPlan host_plan(const PlannedPrefill& batch) {
  const Plan plan = planner::make_plan(batch.inputs());
  PackedPlan packed(gpu::shape_of(plan));
  gpu::pack(plan, {batch.page_size, batch.page_lists ? 0 : batch.max_pages}, packed.shape, packed.bytes);
  return packed;
}

// The planner's parameters for the same batch, into a block of the same shape; the lengths lie where the pointers say.
inline gpu::PrefillPlanParams device_params(const PlannedPrefill& batch, const PageTable& table, const std::int32_t* qo_indptr,
                                            const std::int32_t* qo_lens, const gpu::PackedView& out) {
  gpu::PrefillPlanParams params{.table = table, .qo_indptr = batch.by_lens ? nullptr : qo_indptr,
          .qo_lens = batch.by_lens ? qo_lens : nullptr, .most_keys = batch.most_keys, .most_queries = batch.most_queries,
          .nnz_qo = batch.nnz_qo, .num_qo_heads = batch.num_kv_heads * batch.group_size, .group_size = batch.group_size,
          .head_dim_vo = batch.head_dim_vo, .query_tile = batch.query_tile, .pack = batch.pack, .mask = batch.mask,
          .window_left = batch.window_left, .per_item = batch.per_item, .num_ctas = batch.num_ctas, .view = out};
  params.most_items = params.most_tiles();
  return params;
}

// A block with room for any lengths within the bounds.
inline gpu::PackedShape room_for(const PlannedPrefill& batch, gpu::PackedShape shape) {
  const PageTable table = block_table(nullptr, nullptr, 0, 1, static_cast<std::int32_t>(batch.kv_lens.size()));
  shape.items = device_params(batch, table, nullptr, nullptr, {}).most_items;
  return shape;
}

// How the plan that run(block, params, shared, scratch) makes of a batch differs from the host's of `valid`.
template <class Run>
std::string difference(const PlannedPrefill& batch, const PlannedPrefill& valid, Run&& run) {
  const PackedPlan host = host_plan(valid);
  PackedPlan device(room_for(batch, host.shape));
  const gpu::PrefillPlanParams params =
      device_params(batch, batch.host_table(), batch.qo_indptr.data(), batch.qo_lens.data(), device.view);
  const gpu::ClaimedPlanMemory sizes = gpu::claimed_plan_memory(params, SerialBlock::threads, nullptr, nullptr);
  std::vector<std::byte> shared(sizes.shared_bytes, std::byte{0xff}), scratch(sizes.scratch_bytes, std::byte{0xff});
  SerialBlock block;
  run(block, params, shared.data(), scratch.data());
  return difference(host, device);
}

inline std::string describe(const PlannedPrefill& b) {
  std::string text = "heads " + std::to_string(b.num_kv_heads) + " x " + std::to_string(b.group_size) + ", pack " +
                     std::to_string(b.pack) + ", tile " + std::to_string(b.query_tile) + ", " + name_of(b.mask) + ", window " +
                     std::to_string(b.window_left) + ", lengths";
  for (std::size_t i = 0; i < b.kv_lens.size() && i < 20; ++i) {
    text += " " + std::to_string(b.qo_lens[i]) + "/" + std::to_string(b.kv_lens[i]);
  }
  return text + (b.kv_lens.size() > 20 ? " ... " + std::to_string(b.kv_lens.size()) : "");
}

// Whole prompts, chunks of long ones, drafts, decodes, requests without queries or without keys, fewer keys than queries; one
// request or thousands; tiles of every height that a kernel has, packed and not.
inline PlannedPrefill random_prefill(std::uint64_t seed) {
  std::mt19937_64 bits(seed);
  const auto draw = [&](std::int64_t low, std::int64_t high) {
    return static_cast<std::int32_t>(low + static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(high - low + 1)));
  };
  PlannedPrefill b;
  const std::int32_t size = draw(0, 30);
  const std::int32_t batch = size == 0 ? draw(0, 3000) : size < 5 ? draw(65, 300) : draw(size < 9 ? 1 : 0, size < 14 ? 3 : 40);
  const std::int32_t kind = draw(0, 5), longest = 1 << draw(0, batch < 5 ? 16 : batch < 70 ? 12 : 8);
  const std::int32_t prompt = draw(1, longest), history = 1 << draw(0, 20);
  for (std::int32_t r = 0; r < batch; ++r) {
    const std::int32_t queries = draw(0, 9) == 0 ? draw(0, 1) : kind == 0 ? prompt : kind == 1 ? draw(1, 6) : draw(0, longest);
    const std::int32_t before = kind == 2 ? draw(0, history) : kind == 3 ? history : 0;
    b.qo_lens.push_back(queries);
    b.kv_lens.push_back(draw(0, 14) == 0 ? draw(0, queries) : queries + before);
  }
  const std::int32_t heads[][2] = {{8, 4}, {8, 8}, {1, 8}, {32, 1}, {2, 7}, {1, 1}, {4, 5}, {1, 64}};
  const auto& [num_kv_heads, group_size] = heads[draw(0, 7)];
  b.num_kv_heads = num_kv_heads, b.group_size = group_size;
  b.pack = draw(0, 1) == 0 ? 1 : group_size;
  const std::int32_t groups = draw(2, 3), heights[] = {128, groups * (64 / b.pack * b.pack), 64, 32};
  b.query_tile = heights[draw(0, 3)];
  b.head_dim_vo = 64 << draw(0, 2);
  b.mask = draw(0, 3) == 0 ? MaskMode::none : MaskMode::causal;
  b.window_left = draw(0, 3) == 0 ? draw(0, 4096) : -1;
  b.per_item = draw(0, 2) == 0 ? draw(1, 400) : 64;
  b.num_ctas = draw(0, 2) == 0 ? draw(1, 300) : 132;
  b.page_size = draw(0, 1) == 0 ? 16 : draw(1, 64);
  b.page_lists = draw(0, 1) == 0, b.by_lens = draw(0, 2) == 0;
  b.max_pages = draw(1, 1000);
  b.fill();
  const auto most = [](const std::vector<std::int32_t>& lens) { return lens.empty() ? 0 : *std::ranges::max_element(lens); };
  b.most_queries = most(b.qo_lens) + draw(0, 1) * draw(0, 1000);
  b.most_keys = most(b.kv_lens) + draw(0, 1) * draw(0, 1000);
  b.nnz_qo = b.qo_indptr.back() + draw(0, 1) * draw(0, 1000);
  return b;
}

}  // namespace flashladder::test
