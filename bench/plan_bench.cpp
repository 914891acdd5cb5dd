#include "bench/plan_bench.hpp"

#include <string>

#include "bench/timing.hpp"
#include "ladder/cases/specs/short_form.hpp"
#include "planner/planner.hpp"

namespace flashladder::bench {

std::vector<Measurement> measure_plans(int rounds) {
  constexpr int plans_per_call = 20;  // one plan is too short for the clock's grain
  std::vector<Measurement> lines;
  for (const std::int32_t batch : {256, 4096}) {
    const std::vector<std::int32_t> lens = ladder::parse_lengths("--kv", "lognormal:" + std::to_string(batch));
    for (const planner::SplitPolicy policy : {planner::SplitPolicy::count, planner::SplitPolicy::balanced}) {
      const planner::PlanInputs inputs{.kv_lens = lens, .num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128,
                                       .head_dim_vo = 128, .page_size = 16, .policy = policy, .machine = {132, 2}};
      Plan plan;
      const double ms = median_ms(rounds, [&] {
        for (int i = 0; i < plans_per_call; ++i) planner::make_plan(inputs, plan);
      });
      lines.push_back({.family = "plan", .work = "B" + std::to_string(batch) + " lognormal 32/8 p16 264 CTAs",
                       .backend = std::string("flashladder ") + planner::name_of(policy), .us = ms * 1e3 / plans_per_call,
                       .threads = 1});
    }
  }
  return lines;
}

}  // namespace flashladder::bench
