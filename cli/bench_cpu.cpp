// flashladder bench on the CPU: rungs, planning time and memory bandwidth on the clock, checked in the same run.
#include <algorithm>

#include "bench/bandwidth.hpp"
#include "bench/plan_bench.hpp"
#include "bench/rung_bench.hpp"
#include "bench/timing.hpp"
#include "cli/bench_options.hpp"
#include "cli/commands.hpp"
#include "cli/console.hpp"
#include "core/error.hpp"
#include "core/write_file.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::cli {
namespace {

struct Results {
  std::vector<bench::Measurement> lines;
  std::vector<bench::RungTiming> timings;
  double read_tera_bytes_per_s = 0;
  std::vector<std::string> failures = {}, notes = {};  // of plug-ins: who is wrong, who does not take what
};

int rounds_of(const BenchOptions& o) { return o.rounds.value_or(bench::default_rounds); }

bench::Introduced cpu_plugins(const BenchOptions& o) {
  bench::Introduced all = o.plugins.introduced();
  for (const bench::Plugin& p : all.plugins) {
    require(p.rung.device == Device::cpu, "--plugin", p.path,
            "runs on a GPU, where the L2 cache is flushed between runs: name the family, as in bench decode");
  }
  return all;
}

void time_plugins(Results& results, const ladder::Case& c, const std::vector<bench::Plugin>& plugins, const BenchOptions& o,
                  Progress& progress, Refusals& refusals) {
  for (const bench::Plugin& plugin : plugins) {
    progress.say(plugin.rung.name + " on " + c.spec.name);
    const bench::PluginTiming one = bench::time_plugin(c, plugin, rounds_of(o), o.plugins.child());
    if (!one.refused.empty()) refusals.add(plugin.rung.name, c.spec.name, one.refused);
    if (!one.failure.empty()) {
      results.failures.push_back(plugin.rung.name + " on " + ladder::shown(c.spec.name) + ", not timed: " + one.failure);
    }
    if (!one.timing) continue;
    results.lines.push_back(one.timing->line);
    results.timings.push_back(*one.timing);
  }
}

// The top rung of each ladder that has a case.
std::vector<std::string> planned_rungs(const std::vector<ladder::CaseSpec>& specs) {
  const auto is_mla = [](const ladder::CaseSpec& spec) { return spec.op == ladder::Op::mla; };
  if (std::ranges::any_of(specs, is_mla)) return {"C4", "L3"};
  return {"C4"};
}

Results measure(const BenchOptions& o, const std::vector<ladder::CaseSpec>& specs) {
  const ladder::Settings settings = o.threads.settings();
  const std::vector<const ladder::Rung*> rungs = chosen_rungs(o.rungs.empty() ? planned_rungs(specs) : o.rungs);
  for (const ladder::Rung* rung : rungs) {
    require(rung->device == Device::cpu, "--rung", rung->name,
            "runs on a GPU, where the L2 cache is flushed between runs: name the family, as in bench decode");
  }
  const bench::Introduced plugins = cpu_plugins(o);
  Progress progress;
  Results results;
  results.failures = plugins.failures;
  Refusals refusals;
  progress.say("memory bandwidth");
  results.lines = bench::measure_bandwidth(settings.thread_count(), rounds_of(o));
  results.read_tera_bytes_per_s = results.lines.back().tera_bytes_per_s.value_or(0);
  for (const ladder::CaseSpec& spec : specs) {
    progress.say("drawing " + spec.name);
    const ladder::Case c = draw_case(spec);
    const auto timings = bench::time_rungs(c, rungs, settings, rounds_of(o),
                                           [&](const std::string& what) { progress.say(what); });
    for (const bench::RungTiming& t : timings) results.lines.push_back(t.line);
    results.timings.insert(results.timings.end(), timings.begin(), timings.end());
    time_plugins(results, c, plugins.plugins, o, progress, refusals);
  }
  results.notes = refusals.sentences();
  if (!o.no_plan) {
    progress.say("planning time");
    for (const bench::Measurement& line : bench::measure_plans(rounds_of(o))) results.lines.push_back(line);
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
                    m.threads > 0 ? std::to_string(m.threads) : "-"});
  }
  return text_table({"case", "backend", "median", "GB/s", "of read", "GFLOP/s", "threads"}, rows);
}

std::string checks_text(const std::vector<bench::RungTiming>& timings) {
  std::string text = timings.empty() ? "" : "\nChecked in this run:\n";
  for (const bench::RungTiming& t : timings) {
    const double share = 100 * t.agreement.ratio();
    const std::string line = t.line.work + ", " + t.line.backend.substr(t.line.backend.find(' ') + 1) + ": " +
                             (t.must_equal.empty() ? "" : "all equals " + t.must_equal + ", ") + t.sample +
                             " equal the double oracle; " + short_number(share) + " % of the tolerance";
    const std::string lines = "  " + paragraph(line, 4);
    text += lines.substr(0, lines.size() - 1) + "  " + verdict(t.agreement.verdict()) + "\n";
    if (!t.agreement.ok()) text += "    " + paragraph(t.agreement.message(), 4);
  }
  return text;
}

ladder::Json::List list_of(const std::vector<std::string>& sentences) {
  return {sentences.begin(), sentences.end()};
}

ladder::Json to_json(const bench::Machine& machine, const Results& results) {
  using ladder::Json;
  Json::List lines, checks;
  for (const bench::Measurement& m : results.lines) lines.push_back(bench::to_json(m));
  for (const bench::RungTiming& t : results.timings) {
    checks.push_back(Json::Object{
                      {"case", t.line.work}, {"backend", t.line.backend}, {"must_equal", t.must_equal},
                      {"oracle_on", t.sample}, {"ok", t.agreement.ok()}, {"share_of_tolerance", t.agreement.ratio()},
                      {"message", t.agreement.message()}});
  }
  return Json::Object{{"machine", bench::to_json(machine)}, {"lines", lines}, {"checks", checks},
                      {"failures", list_of(results.failures)}, {"not_supported", list_of(results.notes)}};
}

void report(const BenchOptions& o, Results results) {
  bench::Machine machine = bench::this_machine();
  if (!o.commit.empty()) machine.commit = o.commit;
  for (bench::Measurement& line : results.lines) line.run = o.run;
  if (!o.jsonl.empty()) write_file_whole(o.jsonl, bench::json_lines(bench::to_json(machine), results.lines));
  if (o.json) {
    print_json(to_json(machine, results));
  } else if (o.csv) {
    print(bench::csv(results.lines));
  } else {
    print(paragraph(machine.cpu + ", " + counted(machine.cores, "hardware thread") + ", " + machine.compiler + " " +
                    machine.flags + ", " + machine.date + ", commit " + machine.commit) +
          "Median of " + counted(rounds_of(o), "round") + ".\n\n");
    print(table_text(results) + places_text(results.lines) + checks_text(results.timings));
    for (const std::string& note : results.notes) print("\n" + paragraph(note + ".", 2));
    for (const std::string& failure : results.failures) print("\n" + paragraph("FAIL " + failure, 2));
  }
}

}  // namespace

int bench_on_cpu(const BenchOptions& o) {
  std::vector<ladder::CaseSpec> specs = asked_cases(o);
  if (o.table.empty() && !o.shape.given()) specs = bench::standard_cases();
  const Results results = measure(o, specs);
  report(o, results);
  if (!results.failures.empty()) return mismatch;
  if (!specs.empty() && results.timings.empty()) return nothing_ran;
  const auto agrees = [](const bench::RungTiming& t) { return t.agreement.ok(); };
  return std::all_of(results.timings.begin(), results.timings.end(), agrees) ? good : mismatch;
}

int bench_plans_on_cpu(const BenchOptions& o) {
  report(o, {.lines = bench::measure_plans(rounds_of(o)), .timings = {}});
  return good;
}

}  // namespace flashladder::cli
