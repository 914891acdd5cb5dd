// flashladder plan: who computes what of a batch, by which policy, and a proof that the plan is right: C4 executes it.
#include <algorithm>
#include <filesystem>
#include <memory>

#include "bench/sampled_check.hpp"
#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/plan_report.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "core/write_file.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "planner/planner.hpp"
#include "reference/c4_lanes.hpp"

namespace flashladder::cli {
namespace {

struct PlanOptions {
  CaseOptions shape;
  ThreadOption threads;
  std::string policy = "balanced", explain;
  std::int32_t chunk = 512, tile = 0;
  std::int64_t target = 512;
  planner::MachineShape machine;
  bool no_run = false, json = false;
};

planner::PlanInputs inputs_of(const PlanOptions& o, const ladder::CaseSpec& spec) {
  const bool decode = std::all_of(spec.qo_lens.begin(), spec.qo_lens.end(), [](std::int32_t n) { return n == 1; });
  planner::PlanInputs in{.kv_lens = spec.kv_lens, .num_qo_heads = spec.params.num_qo_heads,
                         .num_kv_heads = spec.params.num_kv_heads, .head_dim_qk = spec.params.head_dim_qk,
                         .head_dim_vo = spec.params.head_dim_vo, .page_size = spec.page_size, .mask = spec.params.mask,
                         .window_left = spec.params.window_left, .query_tile = o.tile, .chunk_size = o.chunk,
                         .target_units = o.target, .machine = o.machine};
  if (!decode) in.qo_lens = spec.qo_lens;
  return in;
}

// C4, but with this plan in place of the one that its adapter would make. workers becomes the threads that ran it.
ladder::Rung c4_with(const Plan& plan, int& workers) {
  ladder::Rung rung = ladder::rung("C4");
  rung.workspace_bytes = [&plan](const ladder::CaseSpec&, const ladder::Settings&) { return plan.workspace_bytes(); };
  using reference::PlanExecutor;
  rung.prepare = [&](const ladder::Buffers& b, const ladder::CaseSpec&, const ladder::Settings& s) -> ladder::Runner {
    const auto choice = s.threads > 0 ? PlanExecutor::Workers::exactly : PlanExecutor::Workers::at_most;
    const auto executor = std::make_shared<PlanExecutor>(reference::c4::attend_item, s.thread_count(), choice);
    return [=, &plan, &workers, schedule = s.schedule](void*) {
      workers = executor->run(b.problem, plan, b.workspace, schedule, b.output);
    };
  };
  return rung;
}

Execution execute(const ladder::CaseSpec& spec, const Plan& plan, const ladder::Settings& settings) {
  Progress progress;
  progress.say("drawing the case");
  const ladder::Case c = draw_case(spec);
  progress.say("the double oracle");
  const bench::SampledOracle oracle = bench::sampled_oracle(c);
  progress.say("C3, the rung below");
  const ladder::RunResult below = run_rung(ladder::rung("C3"), c, settings);
  progress.say("C4, the plan");
  int workers = 0;
  const ladder::RunResult planned = run_rung(c4_with(plan, workers), c, settings);
  return {workers, planned.milliseconds, oracle.text(), agree(c, planned, &below, oracle)};
}

std::string execution_text(const Execution& e) {
  const ladder::Comparison& a = e.agreement;
  const std::string text = "  C4 executed the plan on " + counted(e.threads, "thread") + " in " +
                           milliseconds(e.milliseconds) + "\n";
  if (!a.ok()) return text + "  It does not equal C3, the rung below: " + a.message() + "  " + verdict(a.verdict()) + "\n";
  return text + "  It equals C3, the rung below, and the double oracle (" + e.sample + "):\n" +
         "    o worst error " + short_number(a.o.error) + " / tolerance " + short_number(a.o.tolerance) +
         ",\n    lse_log2 " + short_number(a.lse_log2.error) + " / " + short_number(a.lse_log2.tolerance) + "  " +
         verdict(true) + "\n  Execution complete!\n";
}

// Options that would change nothing; --explain compares all policies, for which --chunk and --target count.
void refuse_idle_options(const PlanOptions& o, const ladder::Command& command) {
  const bool compares = o.policy == "all" || command.given("--explain");
  refuse_idle(command, "--chunk", o.policy != "fixed" && !compares, "on this policy: only fixed has a chunk size to choose");
  refuse_idle(command, "--target", o.policy != "target" && !compares, "on this policy: only target has work units to reach");
  refuse_idle(command, "--threads", o.no_run || o.policy == "all", "where nothing is executed");
}

int plan(const PlanOptions& o, const ladder::Command& command) {
  refuse_idle_options(o, command);
  const ladder::CaseSpec spec = o.shape.spec();
  check_output(command, {"--explain", o.explain}, o.shape.inputs());
  const bool all = o.policy == "all";
  planner::PlanInputs inputs = inputs_of(o, spec);
  if (o.policy == "fixed") {
    require(o.chunk % inputs.chunk_align == 0, "--chunk", o.chunk,
            ("must be a multiple of " + std::to_string(inputs.chunk_align) + " keys").c_str());
  }
  if (!all) inputs.policy = planner::split_policy_from(o.policy);
  std::vector<NamedPlan> plans;
  if (all) plans = plans_of_all_policies(inputs);
  else plans.push_back({inputs.policy, named_by_options([&] { return planner::make_plan(inputs); })});

  ladder::Json json = ladder::Json::Object{{"configuration", configuration_json(spec, inputs)}};
  for (const NamedPlan& p : plans) {
    if (!o.json) continue;
    using ladder::Json;
    json["plans"].push_back(p.refused.empty() ? plan_json(p)
                                              : Json(Json::Object{{"policy", name_of(p.policy)}, {"refused", p.refused}}));
  }
  if (!o.json) print(configuration_text(spec, inputs, o.policy));
  if (!o.json && !all) print(planning_text(plans[0], inputs.qo_lens.empty()));

  int exit_code = good;
  if (!all && !o.no_run) {
    const std::string items = counted(plans[0].plan.num_work(), "work item");
    if (!o.json) print("\n--- Execution Phase ---\n  Executing " + items + " on the CPU...\n");
    const Execution execution = execute(spec, plans[0].plan, o.threads.settings());
    json["execution"] = execution_json(execution);
    if (!o.json) print(execution_text(execution));
    if (!execution.agreement.ok()) exit_code = mismatch;
  }
  if (!o.json && (all || !o.explain.empty())) {
    print("\nThe policies on this batch (chunk 0: not cut; makespan and tail are predicted,\nin key-equivalents):\n" +
          policies_text(all ? plans : plans_of_all_policies(inputs)));
  }
  if (!o.explain.empty()) {
    write_file_whole(o.explain, lanes_picture(plans, inputs, spec.name + ", policy " + o.policy).text);
    if (!o.json) print("\n" + printable(std::filesystem::absolute(o.explain).string()) + "\n");
  }
  if (o.json) print_json(json);
  return exit_code;
}

}  // namespace

void add_plan(ladder::Program& program) {
  ladder::Command& command = program.command("plan", "Split a batch into work items, show the plan, execute it on the CPU");
  const auto o = std::make_shared<PlanOptions>();
  command.add("--policy", &o->policy, "none, fixed, count, target, balanced or even; all = compare them, execute none",
              {.value = "NAME"});
  command.add("--chunk", &o->chunk, "Keys in a chunk (policy fixed)", {.least = 1});
  command.add("--target", &o->target, "Work units wanted at least (policy target)", {.least = 1});
  command.add("--sms", &o->machine.num_sms, "SMs of the grid", {.least = 1});
  command.add("--ctas-per-sm", &o->machine.ctas_per_sm, "CTAs that an SM holds at a time", {.least = 1});
  command.add("--tile", &o->tile, "Packed query rows in a tile; 0 = the group in decode, 128 in prefill", {.least = 0});
  command.add("--no-run", &o->no_run, "Plan only: executing takes memory for every key");
  command.add("--explain", &o->explain, "Draw the lanes SM by SM (plan.svg unless named) and compare the policies",
              {.value = "FILE", .bare = "plan.svg"});
  command.add("--json", &o->json, "Everything, as JSON");
  o->threads.add_to(command);
  o->shape.add_to(command);
  command.footer("Example:\n"
                 "  flashladder plan --policy target --heads 32 --kv 512,1024,2048,4096 --no-run\n"
                 "  flashladder plan --policy all --sms 8 --kv lognormal:32 --explain lanes.svg");
  command.runs([o, &command] { return plan(*o, command); });
}

}  // namespace flashladder::cli
