#include "api/gpu_planner.hpp"

#include <algorithm>
#include <string>

#include "core/error.hpp"

namespace flashladder::api {
namespace {

// The GPU's planner counts in whole keys, exactly as doubles do.
std::int32_t whole(double keys) {
  const auto number = static_cast<std::int32_t>(keys);
  require(static_cast<double>(number) == keys, "cost", keys, "must be a whole number of keys to be planned on the device");
  return number;
}

}  // namespace

gpu::DecodePlanParams decode_plan_params(const planner::PlanInputs& in, const BatchLengths& lengths,
                                         const gpu::PackedShape& shape, std::byte* packed) {
  // Of several queries a request a tile has all rows (AttentionMachine::query_tile).
  const std::int32_t queries = std::max(1, in.tile_rows() / in.group_size());
  const gpu::DecodePlanParams params{
      .table = lengths.table(in.page_size), .most_keys = lengths.max_seq_len.value_or(0), .num_kv_heads = in.num_kv_heads,
      .group_size = in.group_size(), .query_tile = in.tile_rows(), .queries = queries, .window_left = in.window_left,
      .even = in.policy == SplitPolicy::even, .chunk = in.policy == SplitPolicy::fixed ? in.chunk_size : 0,
      .chunk_align = in.chunk_align, .per_item = whole(in.cost.per_item), .num_ctas = shape.num_ctas,
      .counters = shape.counters, .most_work = shape.items, .view = gpu::view_of(shape, packed)};
  const std::string reason = gpu::why_not_planned(params);
  require(reason.empty(), "plan on the device", reason, "is what its kernel can't count with");
  return params;
}

gpu::PrefillPlanParams prefill_plan_params(const planner::PlanInputs& in, const BatchLengths& lengths,
                                           const gpu::PackedShape& shape, std::byte* packed) {
  const MostQueries& most = *lengths.most_queries;
  const gpu::PrefillPlanParams params{
      .table = lengths.table(in.page_size), .qo_indptr = lengths.qo_lens.empty() ? lengths.qo_indptr.data() : nullptr,
      .qo_lens = lengths.qo_lens.data(), .most_keys = lengths.max_seq_len.value_or(0), .most_queries = most.qo_len,
      .nnz_qo = static_cast<std::int32_t>(most.nnz_qo), .num_qo_heads = in.num_qo_heads, .group_size = in.group_size(),
      .head_dim_vo = in.head_dim_vo, .query_tile = in.tile_rows(), .pack = in.packed_heads(), .mask = in.mask,
      .window_left = in.window_left, .per_item = whole(in.cost.per_item),
      .memory_bound_rows = whole(in.cost.memory_bound_rows), .num_ctas = shape.num_ctas,
      .most_items = shape.items / in.num_heads(in.packed_heads()), .view = gpu::view_of(shape, packed)};
  const std::string reason = in.claimed ? gpu::why_not_planned(params) : "CTAs must claim their work";
  require(reason.empty(), "plan on the device", reason, "is what its kernel can't count with");
  return params;
}

}  // namespace flashladder::api
