// Chapter 18's batches, as P12 plans them and as P11 does: gpu_machine() of api/gpu_call.cpp for pages that boxes can have,
// in numbers that need no GPU.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "api/batch_size.hpp"
#include "core/visibility.hpp"
#include "gpu/decode/decode_cost.hpp"
#include "gpu/prefill/mixed_cost.hpp"
#include "planner/planner.hpp"

namespace flashladder::walkthroughs {

inline constexpr std::int32_t queues_of_cta = 2, most_tile_rows = 128, group_rows = 64, head_dim = 128;

struct MixedBatch {
  std::string name;
  std::vector<std::int32_t> qo_lens, kv_lens;
  std::int32_t num_qo_heads, num_kv_heads, num_sms;

  std::int32_t group() const { return num_qo_heads / num_kv_heads; }
  void add(std::int32_t requests, std::int32_t qo_len, std::int32_t kv_len) {
    qo_lens.insert(qo_lens.end(), static_cast<std::size_t>(requests), qo_len);
    kv_lens.insert(kv_lens.end(), static_cast<std::size_t>(requests), kv_len);
  }

  api::BatchSize size() const {
    api::AttentionConfig config{.heads = {.num_qo_heads = num_qo_heads, .num_kv_heads = num_kv_heads, .head_dim_qk = head_dim},
                                .cache = {.page_size = 16}};
    config.logits.mask = MaskMode::causal;
    return api::size_of_batch(config, false, qo_lens, kv_lens);
  }
  gpu::p12::MixedWork work() const {
    const api::BatchSize size = this->size();
    return {size.decode_keys * num_kv_heads, size.prefill_pairs * num_qo_heads};
  }
  std::int32_t decode_ctas() const { return gpu::p12::decode_ctas(num_sms, work()); }

  Plan p11_plan() const { return planner::make_plan(inputs(size().nnz_qo, std::ssize(qo_lens))); }
  // ctas: of the grid, that decode first.
  Plan p12_plan(std::int32_t ctas) const {
    const api::BatchSize size = this->size();
    planner::PlanInputs in = inputs(size.prefill_queries, size.prefill_requests);
    in.decode_tile = group();
    in.decode_queues = ctas * queues_of_cta;
    in.decode_cost = {.per_item = gpu::d6::keys_per_item(head_dim), .per_many = gpu::d6::keys_per_grouped_item(head_dim)};
    return planner::make_plan(in);
  }

 private:
  // P11's tiles: of a group's heads together where there are few queries a request, else of one head.
  planner::PlanInputs inputs(std::int64_t queries, std::int64_t requests) const {
    const bool few = queries < requests * 2 * group_rows;
    return {.qo_lens = qo_lens, .kv_lens = kv_lens, .num_qo_heads = num_qo_heads, .num_kv_heads = num_kv_heads,
            .head_dim_qk = head_dim, .head_dim_vo = head_dim, .mask = MaskMode::causal, .query_tile = most_tile_rows,
            .pack = few ? group() : 1, .claimed = true, .predicted = false, .policy = planner::SplitPolicy::none,
            .machine = {.num_sms = num_sms, .ctas_per_sm = 1}};
  }
};

// (query, key, query head) that an item's rows see, under a causal mask.
inline std::int64_t seen_pairs(const Plan& plan, const PlanPart& part, const WorkItem& item) {
  const AttentionParams causal{.mask = MaskMode::causal};
  const auto request = static_cast<std::size_t>(item.request);
  std::int64_t pairs = 0;
  for (std::int32_t row = item.rows.begin; row < item.rows.end; ++row) {
    const Range seen = visible_keys(causal, plan.qo_lens[request], plan.kv_lens[request], row / part.pack);
    pairs += std::max(0, std::min(seen.end, item.keys.end) - std::max(seen.begin, item.keys.begin));
  }
  return pairs;
}

}  // namespace flashladder::walkthroughs
