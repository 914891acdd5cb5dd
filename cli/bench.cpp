// flashladder bench: CPU rungs, planning time and memory bandwidth on the clock, checked in the same run.
#include <algorithm>
#include <memory>

#include <nlohmann/json.hpp>

#include "bench/bandwidth.hpp"
#include "bench/plan_bench.hpp"
#include "bench/rung_bench.hpp"
#include "bench/timing.hpp"
#include "cli/commands.hpp"
#include "cli/console.hpp"
#include "cli/options.hpp"
#include "core/error.hpp"
#include "core/write_file.hpp"
#include "ladder/cases/case_json.hpp"
#include "ladder/cases/draw_case.hpp"

namespace flashladder::cli {
namespace {

struct BenchOptions {
  CaseOptions shape;
  ThreadOption threads;
  std::vector<std::string> rungs{"C4"};
  std::string table, jsonl, commit;
  int rounds = bench::default_rounds, run = 1;
  bool csv = false, json = false, no_plan = false;
};

struct Results {
  std::vector<bench::Measurement> lines;
  std::vector<bench::RungTiming> timings;
  double read_tera_bytes_per_s = 0;
};

std::vector<ladder::CaseSpec> specs_of(const BenchOptions& o) {
  std::vector<ladder::CaseSpec> specs;
  if (!o.table.empty()) specs = ladder::read_case_table(o.table);
  if (o.shape.given()) specs.push_back(o.shape.spec());
  return o.table.empty() && !o.shape.given() ? bench::standard_cases() : specs;
}

Results measure(const BenchOptions& o, const std::vector<ladder::CaseSpec>& specs) {
  const ladder::Settings settings = o.threads.settings();
  const std::vector<const ladder::Rung*> rungs = chosen_rungs(o.rungs);
  for (const ladder::Rung* rung : rungs) {
    require(rung->device == ladder::Device::cpu, "--rung", rung->name,
            "runs on a GPU, where the L2 cache must be flushed between runs: bench/gpu/gpu_decode times it");
  }
  Progress progress;
  Results results;
  progress.say("memory bandwidth");
  results.lines = bench::measure_bandwidth(settings.thread_count(), o.rounds);
  results.read_tera_bytes_per_s = results.lines.back().tera_bytes_per_s.value_or(0);
  for (const ladder::CaseSpec& spec : specs) {
    progress.say("drawing " + spec.name);
    const auto timings = bench::time_rungs(draw_case(spec), rungs, settings, o.rounds,
                                           [&](const std::string& what) { progress.say(what); });
    for (const bench::RungTiming& t : timings) results.lines.push_back(t.line);
    results.timings.insert(results.timings.end(), timings.begin(), timings.end());
  }
  if (!o.no_plan) {
    progress.say("planning time");
    for (const bench::Measurement& line : bench::measure_plans(o.rounds)) results.lines.push_back(line);
  }
  return results;
}

std::string table_text(const Results& results) {
  std::vector<Row> rows;
  for (const bench::Measurement& m : results.lines) {
    const auto giga = [](const std::optional<double>& x) { return x ? short_number(*x * 1e3) : "-"; };
    const bool share = m.tera_bytes_per_s && results.read_tera_bytes_per_s > 0 && !m.work.starts_with("copy");
    const std::string of_read = share ? short_number(100 * *m.tera_bytes_per_s / results.read_tera_bytes_per_s) + " %" : "-";
    const std::string median = m.us < 1000 ? short_number(m.us) + " us" : milliseconds(m.us / 1e3);
    rows.push_back({m.work, m.backend, median, giga(m.tera_bytes_per_s), of_read, giga(m.tera_flops),
                    std::to_string(m.threads)});
  }
  return text_table({"case", "backend", "median", "GB/s", "of read", "GFLOP/s", "threads"}, rows);
}

std::string checks_text(const std::vector<bench::RungTiming>& timings) {
  std::string text = timings.empty() ? "" : "\nChecked in this run:\n";
  for (const bench::RungTiming& t : timings) {
    const double share = 100 * t.agreement.ratio();
    text += "  " + t.line.work + ", " + t.line.backend.substr(t.line.backend.find(' ') + 1) + ": " +
            (t.must_equal.empty() ? "" : "all equals " + t.must_equal + ", ") + t.sample + " equal the double oracle; " +
            short_number(share) + " % of the tolerance  " + verdict(t.agreement.ok()) + "\n";
    if (!t.agreement.ok()) text += "    " + t.agreement.message() + "\n";
  }
  return text;
}

nlohmann::ordered_json to_json(const bench::Machine& machine, const Results& results, int run) {
  nlohmann::ordered_json lines = nlohmann::ordered_json::array(), checks = nlohmann::ordered_json::array();
  for (const bench::Measurement& m : results.lines) lines.push_back(bench::to_json(m, run));
  for (const bench::RungTiming& t : results.timings) {
    checks.push_back({{"case", t.line.work}, {"backend", t.line.backend}, {"must_equal", t.must_equal},
                      {"oracle_on", t.sample}, {"ok", t.agreement.ok()}, {"share_of_tolerance", t.agreement.ratio()},
                      {"message", t.agreement.message()}});
  }
  return {{"machine", bench::to_json(machine)}, {"lines", lines}, {"checks", checks}};
}

int bench_command(const BenchOptions& o) {
  require(o.rounds >= 1 && o.rounds <= 100000, "--rounds", o.rounds, "must be 1 .. 100000");
  require(!(o.csv && o.json), "--csv", "", "contradicts --json: standard output holds one of them");
  const std::vector<ladder::CaseSpec> specs = specs_of(o);
  const Results results = measure(o, specs);
  bench::Machine machine = bench::this_machine();
  if (!o.commit.empty()) machine.commit = o.commit;
  if (!o.jsonl.empty()) write_file_whole(o.jsonl, bench::json_lines(machine, results.lines, o.run));
  if (o.json) {
    print_json(to_json(machine, results, o.run));
  } else if (o.csv) {
    print(bench::csv(results.lines, o.run));
  } else {
    print(machine.cpu + ", " + counted(machine.cores, "hardware thread") + ", " + machine.compiler + " " + machine.flags +
          ", " + machine.date + ", commit " + machine.commit + "\nMedian of " + counted(o.rounds, "round") + ".\n\n");
    print(table_text(results) + checks_text(results.timings));
  }
  if (!specs.empty() && results.timings.empty()) return nothing_ran;
  const auto agrees = [](const bench::RungTiming& t) { return t.agreement.ok(); };
  return std::all_of(results.timings.begin(), results.timings.end(), agrees) ? good : mismatch;
}

}  // namespace

void add_bench(CLI::App& program, int& exit_code) {
  CLI::App* command = program.add_subcommand("bench", "Time rungs, planning and memory, and check what was timed");
  const auto o = std::make_shared<BenchOptions>();
  command->add_option("--rung", o->rungs, "A rung, again for more")->capture_default_str()->type_name("NAME");
  command->add_option("--cases", o->table, "A JSON table of cases")->type_name("FILE.json");
  command->add_option("--rounds", o->rounds, "Rounds, of which the median counts")->capture_default_str();
  command->add_flag("--no-plan", o->no_plan, "Leave planning time out");
  command->add_flag("--csv", o->csv, "CSV instead of the table");
  command->add_flag("--json", o->json, "JSON instead of the table");
  command->add_option("--jsonl", o->jsonl, "Also a file of measurement lines (docs/case_format.md)")->type_name("FILE");
  command->add_option("--run", o->run, "Which repetition of the program this is, for its lines")->capture_default_str();
  command->add_option("--commit", o->commit, "The commit to name instead of the one that was built");
  o->threads.add_to(*command);
  o->shape.add_to(*command);
  command->footer("Without --cases or --kv: prefill B1 S2048 and decode B32 kv2048, 32/8 heads, d128, f32, pages of 16 in "
                  "NHD and HND.\n"
                  "Example:\n"
                  "  flashladder bench --kv 1024x4 --dtype f32 --rung C3 --rung C4 --rounds 3 --jsonl bench.jsonl");
  command->callback([o, &exit_code] { exit_code = bench_command(*o); });
}

}  // namespace flashladder::cli
