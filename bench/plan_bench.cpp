#include "bench/plan_bench.hpp"

#include <string>
#include <vector>

#include "bench/gpu_cases.hpp"
#include "bench/timing.hpp"
#include "ladder/cases/specs/short_form.hpp"
#include "planner/planner.hpp"

namespace flashladder::bench {

namespace {

constexpr int plans_per_call = 20;  // one plan is too short for the clock's grain

double us_per_plan(int rounds, const planner::PlanInputs& inputs) {
  Plan plan;
  return median_ms(rounds, [&] {
           for (int i = 0; i < plans_per_call; ++i) planner::make_plan(inputs, plan);
         }) * 1e3 / plans_per_call;
}

// As the prefill class plans for a Hopper GPU: tiles of 128 rows of one head, claimed, and so many that none is cut.
planner::PlanInputs claimed_tiles(const std::vector<std::int32_t>& qo_lens, const std::vector<std::int32_t>& kv_lens) {
  return {.qo_lens = qo_lens, .kv_lens = kv_lens, .num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128,
          .head_dim_vo = 128, .page_size = 16, .mask = MaskMode::causal, .query_tile = 128, .pack = 1, .claimed = true,
          .predicted = false, .policy = planner::SplitPolicy::none, .machine = {132, 1}};
}

Measurement measure_prefill_plan(int rounds) {
  const ladder::CaseSpec spec = prefill_case("B64 S lognormal 32/8 p16 causal");
  return {.family = "plan", .work = spec.name + " 132 CTAs", .backend = "flashladder none",
          .us = us_per_plan(rounds, claimed_tiles(spec.qo_lens, spec.kv_lens)), .threads = 1};
}

// As BatchAttention plans for one: requests of one query in queues of the CTAs that decode first, 100 of 132.
Measurement measure_mixed_plan(int rounds) {
  const ladder::CaseSpec spec = plan_cases().back();
  planner::PlanInputs inputs = claimed_tiles(spec.qo_lens, spec.kv_lens);
  inputs.decode_tile = inputs.group_size();
  inputs.decode_queues = 2 * 100;
  return {.family = "plan", .work = spec.name + " 132 CTAs", .backend = "flashladder none + balanced",
          .us = us_per_plan(rounds, inputs), .threads = 1};
}

}  // namespace

std::vector<Measurement> measure_plans(int rounds) {
  std::vector<Measurement> lines;
  for (const std::int32_t batch : {256, 4096}) {
    const std::vector<std::int32_t> lens = ladder::parse_lengths("--kv", "lognormal:" + std::to_string(batch));
    for (const planner::SplitPolicy policy : {planner::SplitPolicy::count, planner::SplitPolicy::balanced}) {
      const planner::PlanInputs inputs{.kv_lens = lens, .num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128,
                                       .head_dim_vo = 128, .page_size = 16, .policy = policy, .machine = {132, 2}};
      lines.push_back({.family = "plan", .work = "B" + std::to_string(batch) + " lognormal 32/8 p16 264 CTAs",
                       .backend = std::string("flashladder ") + planner::name_of(policy),
                       .us = us_per_plan(rounds, inputs), .threads = 1});
    }
  }
  lines.push_back(measure_prefill_plan(rounds));
  lines.push_back(measure_mixed_plan(rounds));
  return lines;
}

}  // namespace flashladder::bench
