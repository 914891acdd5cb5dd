// flashladder bench: the command and its options; on the CPU (bench_cpu.cpp), or families of work on a GPU (bench_gpu.cpp).
#include <algorithm>
#include <memory>

#include "bench/gpu_bench.hpp"
#include "cli/bench_options.hpp"
#include "cli/commands.hpp"
#include "core/error.hpp"
#include "ladder/cases/specs/case_json.hpp"

namespace flashladder::cli {
namespace {

// Options that would change nothing for what is timed.
void refuse_idle_options(const BenchOptions& o, const ladder::Command& command) {
  const bool on_cpu = o.families.empty(), listed = o.list;
  const auto timed = [&](const char* family) {
    return std::find(o.families.begin(), o.families.end(), family) != o.families.end();
  };
  const bool plan_rungs = timed("decode") || timed("graph"), rungs = plan_rungs || timed("prefill-ladder");
  const bool plans = timed("plan");
  const auto fixed = std::find(o.policies.begin(), o.policies.end(), "fixed");
  o.shape.refuse_idle();
  for (const char* option : {"--policy", "--chunk"}) {
    refuse_idle(command, option, on_cpu || !plan_rungs, "here: it is about planned rungs of the families decode and graph");
  }
  refuse_idle(command, "--chunk", fixed == o.policies.end(), "without --policy fixed");
  refuse_idle(command, "--rung", !on_cpu && !rungs, "on these families: rungs are timed by decode, graph and prefill-ladder");
  refuse_idle(command, "--no-plan", !on_cpu, "with a FAMILY: plan is a family of its own");
  refuse_idle(command, "--threads", !on_cpu && !plans, "on the GPU");
  o.plugins.refuse_idle();
  for (const char* option : {"--rounds", "--jsonl", "--run", "--commit", "--html", "--csv", "--rung", "--policy",
                             "--threads", "--plugin"}) {
    refuse_idle(command, option, listed, "with --list, which times nothing");
  }
}

int bench_command(const BenchOptions& o, const ladder::Command& command) {
  refuse_idle_options(o, command);
  std::vector<FileOption> inputs = o.shape.inputs();
  inputs.push_back({"--cases", o.table});
  check_output(command, {"--jsonl", o.jsonl}, inputs);
  inputs.push_back({"--jsonl", o.jsonl});
  check_output(command, {"--html", o.html}, inputs);
  require(!(o.csv && o.json), "--csv", "", "contradicts --json: standard output holds one of them");
  if (o.families.empty()) {
    require(!o.list && !command.given("--html"), "FAMILY", "", "is missing: --list and --html are about families");
    return bench_on_cpu(o);
  }
  const bool plans_alone = o.families == std::vector<std::string>{"plan"};
  return plans_alone && !o.list && !bench::why_no_gpu().empty() ? bench_plans_on_cpu(o) : bench_on_gpu(o);
}

}  // namespace

std::vector<ladder::CaseSpec> asked_cases(const BenchOptions& o) {
  std::vector<ladder::CaseSpec> specs;
  if (!o.table.empty()) specs = ladder::read_case_table(o.table);
  if (o.shape.given()) specs.push_back(o.shape.spec());
  return specs;
}

void add_bench(ladder::Program& program) {
  ladder::Command& command = program.command("bench", "Time rungs, planning and memory, and check what was timed");
  const auto o = std::make_shared<BenchOptions>();
  command.add("FAMILY", &o->families,
              "On a GPU: decode, graph, prefill, prefill-ladder, append, norm, rope, plan, cascade, mla, lengths; none: the "
              "CPU rungs");
  command.add("--rung,--rungs", &o->rungs, "Rungs, D5,D6 or again for more; else C4, on a GPU D6; of the prefill ladder all");
  o->plugins.add_to(command);
  command.add("--cases", &o->table, "A JSON table of cases", {.value = "FILE"});
  command.add("--rounds", &o->rounds, "CPU: rounds, of which the median counts (7). GPU: lines of each work (1)",
              {.least = 1, .most = 100000});
  command.add("--no-plan", &o->no_plan, "CPU: leave planning time out");
  command.add("--policy", &o->policies, "GPU: the plans of planned rungs: balanced, even, count, fixed, none");
  command.add("--chunk", &o->chunk_size, "GPU: keys of a chunk, --policy fixed", {.least = 1});
  command.add("--list", &o->list, "GPU: print the families' case strings, time nothing");
  command.add("--html", &o->html, "GPU: a page of predicted and measured CTA times", {.value = "FILE"});
  command.add("--csv", &o->csv, "CSV instead of the table");
  command.add("--json", &o->json, "JSON instead of the table");
  command.add("--jsonl", &o->jsonl, "Also a file of measurement lines (docs/case_format.md)", {.value = "FILE"});
  command.add("--run", &o->run, "Which repetition of the program this is, for its lines", {.least = 0});
  command.add("--commit", &o->commit, "The commit to name instead of the one that was built");
  o->threads.add_to(command);
  o->shape.add_to(command);
  command.footer("On the CPU, without --cases or --kv: prefill B1 S2048 and decode B32 kv2048,\n"
                 "32/8 heads, d128, f32, pages of 16 in NHD and HND. On a GPU: what --list prints;\n"
                 "--cases and --kv are for attention and plan; --plugin is for\n"
                 "decode, prefill and prefill-ladder, and one that is wrong is not timed.\n"
                 "Example:\n"
                 "  flashladder bench --kv 1024x4 --dtype f32 --rung C3,C4 --jsonl b.jsonl\n"
                 "  flashladder bench decode graph --list");
  command.runs([o, &command] { return bench_command(*o, command); });
}

}  // namespace flashladder::cli
