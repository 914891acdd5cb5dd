// flashladder bench: the command and its options; on the CPU (bench_cpu.cpp), or families of work on a GPU (bench_gpu.cpp).
#include <memory>

#include "bench/gpu_bench.hpp"
#include "cli/bench_options.hpp"
#include "cli/commands.hpp"
#include "core/error.hpp"
#include "ladder/cases/case_json.hpp"

namespace flashladder::cli {
namespace {

int bench_command(const BenchOptions& o) {
  const int rounds = o.rounds.value_or(1);
  require(rounds >= 1 && rounds <= 100000, "--rounds", rounds, "must be 1 .. 100000");
  require(!(o.csv && o.json), "--csv", "", "contradicts --json: standard output holds one of them");
  if (o.families.empty()) {
    require(!o.list && o.html.empty(), "FAMILY", "", "is missing: --list and --html are about families");
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

void add_bench(CLI::App& program, int& exit_code) {
  CLI::App* command = program.add_subcommand("bench", "Time rungs, planning and memory, and check what was timed");
  const auto o = std::make_shared<BenchOptions>();
  command->add_option("FAMILY", o->families, "On a GPU: decode, graph, append, norm, rope, plan; none: the CPU rungs");
  command->add_option("--rung,--rungs", o->rungs, "Rungs, D5,D6 or again for more; else C4, on a GPU the top rung")
      ->delimiter(',')->allow_extra_args(false)->type_name("NAME");
  command->add_option("--cases", o->table, "A JSON table of cases")->type_name("FILE.json");
  command->add_option("--rounds", o->rounds, "CPU: rounds, of which the median counts (7). GPU: lines of each work (1)");
  command->add_flag("--no-plan", o->no_plan, "CPU: leave planning time out");
  command->add_option("--policy", o->policies, "GPU: the plans of planned rungs: balanced, count, fixed, none")
      ->delimiter(',')->allow_extra_args(false)->capture_default_str();
  command->add_option("--chunk", o->chunk_size, "GPU: keys of a chunk, --policy fixed")->capture_default_str();
  command->add_flag("--list", o->list, "GPU: print the families' case strings, time nothing");
  command->add_option("--html", o->html, "GPU: a page of predicted and measured CTA times")->type_name("FILE");
  command->add_flag("--csv", o->csv, "CSV instead of the table");
  command->add_flag("--json", o->json, "JSON instead of the table");
  command->add_option("--jsonl", o->jsonl, "Also a file of measurement lines (docs/case_format.md)")->type_name("FILE");
  command->add_option("--run", o->run, "Which repetition of the program this is, for its lines")->capture_default_str();
  command->add_option("--commit", o->commit, "The commit to name instead of the one that was built");
  o->threads.add_to(*command);
  o->shape.add_to(*command);
  command->footer("On the CPU, without --cases or --kv: prefill B1 S2048 and decode B32 kv2048, 32/8 heads, d128, f32,\n"
                  "pages of 16 in NHD and HND. On a GPU: what --list prints; --cases and --kv are for decode, graph and plan.\n"
                  "Example:\n"
                  "  flashladder bench --kv 1024x4 --dtype f32 --rung C3 --rung C4 --rounds 3 --jsonl bench.jsonl\n"
                  "  flashladder bench decode graph --list");
  command->callback([o, &exit_code] { exit_code = bench_command(*o); });
}

}  // namespace flashladder::cli
