#include "api/attention_session.hpp"
#include "planner/chunk_size.hpp"

namespace flashladder::api {

planner::PlanInputs plan_inputs(const AttentionConfig& config, const AttentionMachine& machine, bool decode,
                                std::span<const std::int32_t> qo_lens, std::span<const std::int32_t> kv_lens) {
  const HeadShape& heads = config.heads;
  const ExecutionConfig& execution = config.execution;
  planner::PlanInputs in{.qo_lens = qo_lens, .kv_lens = kv_lens,
          .num_qo_heads = heads.num_qo_heads, .num_kv_heads = heads.num_kv_heads,
          .head_dim_qk = heads.head_dim_qk, .head_dim_vo = heads.dim_vo(), .page_size = config.cache.page_size,
          .mask = config.logits.mask, .window_left = config.logits.window_left,
          .query_tile = machine.query_tile(decode, heads.num_qo_heads / heads.num_kv_heads), .pack = machine.pack,
          .decode_tile = machine.decode_tile, .decode_queues = machine.decode_queues,
          .claimed = machine.claimed, .predicted = !machine.claimed,
          .policy = execution.policy, .chunk_size = execution.chunk_size, .machine = machine.shape, .cost = machine.cost,
          .decode_cost = machine.decode_cost};
  if (in.policy != SplitPolicy::balanced) return in;
  const bool enough = machine.enough_tiles > 0 &&
                      planner::count_tiles(in) >= machine.enough_tiles * in.machine.num_ctas();
  if (enough || machine.one_wave) in.policy = SplitPolicy::none;
  return in;
}

AttentionConfig planned_on_device(AttentionConfig config) {
  SplitPolicy& policy = config.execution.policy;
  if (policy == SplitPolicy::balanced) policy = SplitPolicy::even;
  return config;
}

}  // namespace flashladder::api
