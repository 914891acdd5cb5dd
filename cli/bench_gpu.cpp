// flashladder bench FAMILY...: families of work on a GPU. All is prepared and checked first, then timed in rounds.
#include <algorithm>
#include <set>
#include <utility>

#include "bench/gpu_bench.hpp"
#include "bench/plugin_host.hpp"
#include "cli/bench_options.hpp"
#include "cli/commands.hpp"
#include "cli/console.hpp"
#include "cli/roofline_table.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "core/write_file.hpp"
#include "ladder/cases/specs/case_json.hpp"

namespace flashladder::cli {
namespace {

using bench::Family, bench::Measurement, bench::TimedWork;

struct PreparedFamily {
  Family family;
  std::vector<TimedWork> works;
};

std::vector<Family> families_of(const BenchOptions& o) {
  std::vector<Family> families;
  for (const std::string& name : o.families) {
    const Family family = bench::family_from(name);
    const bool prefill = family == Family::prefill || family == Family::prefill_ladder;
    const bool has_cases = prefill || family == Family::decode || family == Family::graph || family == Family::plan ||
                           family == Family::mla;
    require(has_cases || (o.table.empty() && !o.shape.given()), "FAMILY", name, "takes no --cases and no --kv");
    families.push_back(family);
    for (const ladder::CaseSpec& spec : prefill ? asked_cases(o) : std::vector<ladder::CaseSpec>{}) {
      const std::string reason = bench::why_not_timed_as_prefill(spec);
      require(reason.empty(), "case", printable(spec.name), reason.c_str());
    }
  }
  return families;
}

// The host of the plug-ins, and which of its cases belong to which family.
struct HostedPlugins {
  std::shared_ptr<bench::PluginHost> host = {};  // none: no plug-ins
  std::vector<std::vector<std::size_t>> cases = {};  // [families]
  std::vector<std::string> failures = {};            // of plug-ins that could not even introduce themselves
};

// Called before anything else touches the GPU.
HostedPlugins host_plugins(const BenchOptions& o, const std::vector<Family>& families) {
  HostedPlugins hosted;
  if (!o.plugins.given()) return hosted;
  std::vector<ladder::CaseSpec> all;
  for (const Family family : families) {
    std::vector<std::size_t>& mine = hosted.cases.emplace_back();
    for (ladder::CaseSpec& spec : bench::plugin_cases(family, asked_cases(o))) {
      mine.push_back(all.size());
      all.push_back(std::move(spec));
    }
  }
  bench::Introduced introduced = o.plugins.introduced();
  for (const bench::Plugin& p : introduced.plugins) {
    require(p.rung.device == Device::gpu, "--plugin", p.path, "runs on the CPU: bench without a FAMILY times it");
  }
  hosted.failures = std::move(introduced.failures);
  hosted.host = std::make_shared<bench::PluginHost>(std::move(introduced.plugins), std::move(all), bench::time_plugin_on_gpu,
                                                    o.plugins.child());
  return hosted;
}

constexpr const char* usual_rung = "D6";  // which the public class takes for all but few tiles of few keys

bench::GpuWorkOptions work_options(const BenchOptions& o) {
  bench::GpuWorkOptions options{.rungs = {}, .settings = {}, .specs = asked_cases(o)};
  for (const ladder::Rung& rung : ladder::rungs()) {
    const bool named = std::find(o.rungs.begin(), o.rungs.end(), rung.name) != o.rungs.end();
    require(!named || rung.device == Device::gpu, "--rung", rung.name,
            "runs on the CPU: bench without a FAMILY times it");
    if (rung.device != Device::gpu) continue;
    if (o.rungs.empty() && rung.name == usual_rung) options.rungs = {&rung};
    if (named) options.rungs.push_back(&rung), options.ladder_rungs.push_back(&rung);
  }
  for (const ladder::Rung& rung : ladder::mla_rungs()) {
    const bool named = std::find(o.rungs.begin(), o.rungs.end(), rung.name) != o.rungs.end();
    require(!named || rung.device == Device::gpu, "--rung", rung.name,
            "runs on the CPU: bench without a FAMILY times it");
    if (named) options.mla_rungs.push_back(&rung);
  }
  for (const std::string& policy : o.policies) {
    options.settings.push_back({.policy = planner::split_policy_from(policy), .chunk_size = o.chunk_size});
  }
  return options;
}

// "shape", where the work is attention alone: the case as a case table has it (page_size 0: contiguous), for bench/peers.
int list_cases(const BenchOptions& o) {
  ladder::Json::List all;
  std::vector<Row> rows;
  for (const Family family : families_of(o)) {
    std::vector<ladder::CaseSpec> specs = asked_cases(o);
    std::vector<std::string> names;
    for (const ladder::CaseSpec& spec : specs) {
      for (const char* suffix : {" cold", " warm"}) {
        if (family == Family::graph) names.push_back(spec.name + suffix);
      }
      if (family != Family::graph) names.push_back(spec.name);
    }
    if (specs.empty()) specs = bench::attention_cases(family), names = bench::case_strings(family);
    const ladder::Json shapes = ladder::parse_json(ladder::case_table_json(specs), "--list", 3);
    for (std::size_t i = 0; i < names.size(); ++i) {
      rows.push_back({bench::name_of(family), names[i]});
      all.push_back(ladder::Json::Object{{"family", bench::name_of(family)}, {"case", names[i]}});
      if (family != Family::graph && !specs.empty()) all.back()["shape"] = (*shapes.list())[i];
    }
  }
  if (o.json) {
    print_json(all);
  } else {
    print(text_table({"family", "case"}, rows));
  }
  return good;
}

std::string name_of(const TimedWork& work) { return work.line.work + ", " + work.line.backend; }

struct Session {
  HostedPlugins plugins;
  std::shared_ptr<bench::GpuTimer> timer = bench::gpu_timer();
  bench::GpuMachine machine = bench::gpu_machine();
  std::vector<PreparedFamily> prepared = {};
  std::vector<Measurement> lines = {};
  std::vector<std::string> notes = {};  // what plug-ins do not take
  std::set<std::string> floors = {};  // case strings whose floor is timed
  Progress progress = {};

  void add(Measurement line, int run) {
    line.run = run;
    lines.push_back(std::move(line));
  }
  void prepare(const BenchOptions& o);
  void time(PreparedFamily& family, int run);
  std::vector<LineCheck> checks() const;
  std::vector<std::string> failures() const;
};

void Session::prepare(const BenchOptions& o) {
  const bench::GpuWorkOptions options = work_options(o);
  const auto say = [&](const std::string& what) { progress.say(what); };
  if (!o.commit.empty()) machine.commit = o.commit;
  const std::vector<Family> families = families_of(o);
  for (std::size_t f = 0; f < families.size(); ++f) {
    PreparedFamily& family = prepared.emplace_back(families[f], bench::prepare(families[f], options, timer, say));
    if (!plugins.host) continue;
    for (TimedWork& work : bench::plugin_works(families[f], plugins.host, plugins.cases[f], notes, say)) {
      family.works.push_back(std::move(work));
    }
  }
  progress.clear();
}

// Every work of a family once, unless it has been wrong; its floor in the first round, once for all who do the same work.
void Session::time(PreparedFamily& family, int run) {
  for (TimedWork& work : family.works) {
    if (!work.failure.empty()) continue;
    progress.say(name_of(work));
    if (work.floor != bench::Floor::none && floors.insert(work.line.work).second) add(bench::time_floor(*timer, work), run);
    Measurement line = work.line;
    line.us = work.time_us();
    if (work.bytes > 0) line.tera_bytes_per_s = 1e-6 * work.bytes / line.us;
    if (work.flops > 0) line.tera_flops = 1e-6 * work.flops / line.us;
    const std::string now = work.recheck ? work.recheck() : "";
    if (now.empty()) {
      add(line, run);
    } else {
      work.failure = "after it was timed: " + now;
    }
  }
  progress.clear();
}

std::vector<LineCheck> Session::checks() const {
  std::vector<LineCheck> checks;
  for (const PreparedFamily& family : prepared) {
    for (const TimedWork& work : family.works) {
      if (work.failure.empty()) checks.push_back({work.line.family, name_of(work), work.checked});
    }
  }
  return checks;
}

std::vector<std::string> Session::failures() const {
  std::vector<std::string> failures = plugins.failures;
  for (const PreparedFamily& family : prepared) {
    for (const TimedWork& work : family.works) {
      if (!work.failure.empty()) failures.push_back(work.line.family + " " + name_of(work) + ": " + work.failure);
    }
  }
  return failures;
}

void time_in_rounds(Session& session, const BenchOptions& o) {
  for (int run = o.run; run < o.run + o.rounds.value_or(1); ++run) {
    for (PreparedFamily& family : session.prepared) {
      if (&family == session.prepared.data()) {
        for (const Measurement& ceiling : bench::time_ceilings(*session.timer)) session.add(ceiling, run);
      }
      session.time(family, run);
      if (!o.jsonl.empty()) write_file_whole(o.jsonl, bench::json_lines(bench::to_json(session.machine), session.lines));
    }
  }
}

// Printed, and with --html FILE drawn.
void profile_ctas(Session& session, const BenchOptions& o) {
  const auto profiles = bench::profile_ctas(asked_cases(o), *session.timer, [&](const std::string& what) {
    session.progress.say(what);
  });
  session.progress.clear();
  const bench::GpuMachine& m = session.machine;
  const std::string machine = m.gpu + ", driver " + m.driver + ", " + m.date + ", commit " + m.commit;
  write_file_whole(o.html, bench::cta_page(profiles, machine));
  if (!o.json && !o.csv) print("\n" + cta_report(profiles) + "Each CTA is drawn in " + printable(o.html) + "\n");
}

}  // namespace

int bench_on_gpu(const BenchOptions& o) {
  const std::vector<Family> families = families_of(o);  // refuses what it doesn't know, with a GPU and without
  if (o.list) return list_cases(o);
  HostedPlugins plugins = host_plugins(o, families);
  if (!bench::why_no_gpu().empty()) {
    print(paragraph("Nothing was timed: " + bench::why_no_gpu() + ". --list says what would be."));
    return nothing_ran;
  }
  Session session{.plugins = std::move(plugins)};
  session.prepare(o);
  time_in_rounds(session, o);
  const std::vector<std::string> failures = session.failures();
  if (o.json) {
    ladder::Json::List lines, checks;
    for (const Measurement& line : session.lines) lines.push_back(bench::to_json(line));
    for (const LineCheck& check : session.checks()) {
      checks.push_back(check.family + " " + check.line + ": " + check.compared);
    }
    print_json(ladder::Json::Object{{"machine", bench::to_json(session.machine)}, {"lines", lines}, {"checks", checks},
                                    {"failures", failures}, {"not_supported", session.notes}});
  } else if (o.csv) {
    print(bench::csv(session.lines));
  } else {
    print(roofline_report(session.machine, session.lines, session.checks()));
  }
  if (!o.html.empty()) profile_ctas(session, o);
  if (!o.json && !o.csv) {
    for (const std::string& note : session.notes) print(paragraph(note + ".", 2));
    for (const std::string& failure : failures) print(paragraph("FAIL " + failure, 2));
  }
  return !failures.empty() ? mismatch : session.lines.empty() ? nothing_ran : good;
}

}  // namespace flashladder::cli
