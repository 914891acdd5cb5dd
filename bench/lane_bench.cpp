#include "bench/lane_bench.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include "bench/rung_bench.hpp"
#include "bench/sampled_check.hpp"
#include "core/error.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "planner/planner.hpp"
#include "reference/c4_lanes.hpp"

namespace flashladder::bench {
namespace {

constexpr int samples = 11;
constexpr std::int32_t least_lanes = 16;

using WorkTimes = std::vector<std::int64_t>;  // [num_work()] ns

// C4 with this plan; each run's times go to `runs`.
ladder::Rung c4_with(const Plan& plan, std::vector<WorkTimes>& runs) {
  ladder::Rung rung = ladder::rung("C4");
  rung.workspace_bytes = [&plan](const ladder::CaseSpec&, const ladder::Settings&) { return plan.workspace_bytes(); };
  rung.prepare = [&](const ladder::Buffers& b, const ladder::CaseSpec&, const ladder::Settings& s) -> ladder::Runner {
    using reference::PlanExecutor;
    const auto c4 = std::make_shared<PlanExecutor>(reference::c4::attend_item, s.thread_count(),
                                                   PlanExecutor::Workers::exactly);
    return [=, &plan, &runs, schedule = s.schedule](void*) {
      runs.emplace_back(static_cast<std::size_t>(plan.num_work()));
      c4->run(b.problem, plan, b.workspace, schedule, b.output, runs.back());
    };
  };
  return rung;
}

// Of each work the fastest of the runs: in the others its thread may have had to wait for a core, which no plan knows of.
WorkTimes fastest(const std::vector<WorkTimes>& runs) {
  WorkTimes least = runs.front();
  for (const WorkTimes& run : runs) {
    for (std::size_t w = 0; w < least.size(); ++w) least[w] = std::min(least[w], run[w]);
  }
  return least;
}

}  // namespace

std::vector<double> lane_us(const Plan& plan, std::span<const std::int64_t> work_ns) {
  std::vector<double> us(plan.cta_cost.size());
  std::size_t first = 0;
  for (const PlanPart& part : plan.parts) {
    for (std::size_t lane = 0; lane < us.size(); ++lane) {
      for (std::int32_t i = part.queue_indptr[lane]; i < part.queue_indptr[lane + 1]; ++i) {
        us[lane] += 1e-3 * static_cast<double>(work_ns[first + static_cast<std::size_t>(part.queue[i])]);
      }
    }
    first += static_cast<std::size_t>(part.num_work());
  }
  return us;
}

std::vector<CtaProfile> profile_lanes(const ladder::CaseSpec& spec, const ladder::Settings& settings) {
  const ladder::Case c = draw_case(spec);
  const SampledOracle oracle = sampled_oracle(c);
  const ladder::RunResult below = run_rung(ladder::rung("C3"), c, settings);
  const std::int32_t threads = settings.thread_count();
  std::vector<CtaProfile> profiles;
  for (const planner::SplitPolicy policy : {planner::SplitPolicy::balanced, planner::SplitPolicy::none}) {
    planner::PlanInputs inputs = ladder::cpu_plan_inputs(spec, settings);
    inputs.policy = policy;
    inputs.machine = {.num_sms = threads * std::max(1, least_lanes / threads), .ctas_per_sm = 1};
    const Plan plan = planner::make_plan(inputs);
    std::vector<WorkTimes> runs;
    const auto repeat = [](const std::function<void()>& run) {
      for (int i = 0; i < samples; ++i) run();
      return 0.0;  // the whole is not timed
    };
    const ladder::RunResult result = run_rung(c4_with(plan, runs), c, settings, repeat);
    const ladder::Comparison comparison = agree(c, result, &below, oracle);
    require(comparison.ok(), "C4", spec.name, comparison.message().c_str());
    profiles.push_back({.work = cpu_case_string(spec), .policy = name_of(policy),
                        .predicted = {plan.cta_cost.begin(), plan.cta_cost.end()},
                        .begin_us = std::vector<double>(plan.cta_cost.size()), .end_us = lane_us(plan, fastest(runs)),
                        .backend = "flashladder C4"});
  }
  return profiles;
}

}  // namespace flashladder::bench
