#include "planner/plan_inputs.hpp"

#include <cmath>
#include <string>

#include "core/error.hpp"

namespace flashladder::planner {
namespace {

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();

void validate_lengths(const PlanInputs& in) {
  require(in.kv_lens.size() <= static_cast<std::size_t>(int32_max), "kv_lens size", in.kv_lens.size(), "must be below 2^31");
  require(in.qo_lens.empty() || in.qo_lens.size() == in.kv_lens.size(), "qo_lens size", in.qo_lens.size(),
          "must be that of kv_lens, or 0 for decode");
  for (std::int32_t b = 0; b < in.batch(); ++b) {
    require(in.kv_lens[b] >= 0, "kv_lens", in.kv_lens[b], "must be 0 or more", b);
    require(in.qo_len(b) >= 0, "qo_lens", in.qo_len(b), "must be 0 or more", b);
    require(std::int64_t{in.qo_len(b)} * in.group_size() <= int32_max, "qo_lens", in.qo_len(b),
            "times the group size must be below 2^31", b);
  }
}

void validate_policy(const PlanInputs& in) {
  require(in.chunk_align >= 1, "chunk_align", in.chunk_align, "must be at least 1");
  if (in.policy == SplitPolicy::fixed) {
    require(in.chunk_size >= 1 && in.chunk_size % in.chunk_align == 0, "chunk_size", in.chunk_size,
            "must be a positive multiple of chunk_align");
  }
  if (in.policy == SplitPolicy::target) {
    require(tiers[0] % in.chunk_align == 0, "chunk_align", in.chunk_align, "must divide 512, the smallest tier");
    require(in.target_units >= 1, "target_units", in.target_units, "must be at least 1");
  }
  if (in.policy == SplitPolicy::count) require(in.min_chunk >= 1, "min_chunk", in.min_chunk, "must be at least 1");
}

// So large that nobody needs more, and so small that no sum of costs is infinite and no search for a share takes long.
void validate_cost(const CostModel& cost) {
  constexpr double most = 1e9;
  const auto within = [&](const char* argument, double value) {
    require(value >= 0 && value <= most, argument, value, "must be 0 .. 1e9");
  };
  within("cost.per_item", cost.per_item);
  within("cost.few_partials", cost.few_partials);
  within("cost.per_many", cost.per_many);
  require(cost.memory_bound_rows >= 1e-3 && cost.memory_bound_rows <= most, "cost.memory_bound_rows", cost.memory_bound_rows,
          "must be 0.001 .. 1e9");
}

}  // namespace

SplitPolicy split_policy_from(std::string_view name) {
  for (SplitPolicy policy : all_policies) {
    if (name == name_of(policy)) return policy;
  }
  throw InputError("policy", std::string(name), "must be none, fixed, count, target, balanced or even");
}

void validate(const PlanInputs& in) {
  require(in.num_kv_heads >= 1, "num_kv_heads", in.num_kv_heads, "must be at least 1");
  require(in.num_qo_heads >= 1 && in.num_qo_heads % in.num_kv_heads == 0, "num_qo_heads", in.num_qo_heads,
          "must be a positive multiple of num_kv_heads");
  require(in.head_dim_qk >= 1, "head_dim_qk", in.head_dim_qk, "must be at least 1");
  require(in.head_dim_vo >= 1, "head_dim_vo", in.head_dim_vo, "must be at least 1");
  require(in.page_size >= 1, "page_size", in.page_size, "must be at least 1");
  require(in.window_left >= -1, "window_left", in.window_left, "must be -1 (off) or more");
  require(in.query_tile >= 0, "query_tile", in.query_tile, "must be at least 1, or 0 for the default");
  require(in.pack == 0 || in.pack == 1 || in.pack == in.group_size(), "pack", in.pack,
          "must be 1 or the group size, num_qo_heads / num_kv_heads, or 0 for the group size");
  require(in.decode_tile >= 0, "decode_tile", in.decode_tile, "must be at least 1, or 0 for one part");
  require(in.decode_queues >= 0 && in.decode_queues <= 1 << 20, "decode_queues", in.decode_queues, "must be 0 .. 2^20");
  require(in.decode_queues == 0 || (in.decode_tile > 0 && in.claimed && !in.predicted), "decode_queues", in.decode_queues,
          "must be 0, unless there is a decode_tile and the others' work is claimed without a prediction");
  require(in.predicted || (in.claimed && (in.decode_tile == 0 || in.decode_queues > 0)), "predicted", in.predicted,
          "must be on, unless claimed is on and decode_tile is 0, or has queues of its own: queues are what is executed, and "
          "a second part needs the load of the first");
  require(in.machine.num_sms >= 1, "num_sms", in.machine.num_sms, "must be at least 1");
  require(in.machine.ctas_per_sm >= 1, "ctas_per_sm", in.machine.ctas_per_sm, "must be at least 1");
  require(in.machine.num_ctas() <= 1 << 20, "num_sms * ctas_per_sm", in.machine.num_ctas(), "must be at most 2^20");
  validate_cost(in.cost);
  validate_cost(in.decode_cost);
  validate_policy(in);
  validate_lengths(in);
}

}  // namespace flashladder::planner
