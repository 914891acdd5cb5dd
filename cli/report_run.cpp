// On the CPU: every rung, and plug-ins beside them, over lengths, batches and a skewed batch, the ceilings, and the lanes of
// a plan.
#include "cli/report_run.hpp"

#include <utility>

#include "bench/bandwidth.hpp"
#include "bench/gemm.hpp"
#include "bench/lane_bench.hpp"
#include "bench/report/lane_lines.hpp"
#include "bench/rung_bench.hpp"
#include "cli/console.hpp"
#include "cli/plugin_timing.hpp"
#include "core/error.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::cli {
namespace {

using bench::Measurement;
using ladder::CaseSpec;

constexpr int rounds_of_one_line = 3;  // of a CPU rung: the median of these is a run's line

CaseSpec cpu_case(std::int32_t qo_len, std::vector<std::int32_t> kv_lens) {
  CaseSpec s;
  s.qo_lens.assign(kv_lens.size(), qo_len);
  s.kv_lens = std::move(kv_lens);
  s.params = {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128,
              .sm_scale = default_sm_scale(128), .mask = qo_len > 1 ? MaskMode::causal : MaskMode::none};
  s.name = case_string(s);
  return s;
}

// As many keys as four requests of 2048.
CaseSpec skewed_case() { return cpu_case(1, {6400, 256, 256, 256, 256, 256, 256, 256}); }

// Lengths double and batches double, so that the report can draw both; prefills too; all of it seconds, C0 too.
std::vector<CaseSpec> cpu_cases() {
  std::vector<CaseSpec> cases;
  for (const std::int32_t kv_len : {512, 1024, 2048, 4096}) cases.push_back(cpu_case(1, {kv_len, kv_len, kv_len, kv_len}));
  for (const std::size_t batch : {1, 2, 8}) cases.push_back(cpu_case(1, std::vector<std::int32_t>(batch, 2048)));
  cases.push_back(skewed_case());
  for (const std::int32_t length : {64, 128, 256}) cases.push_back(cpu_case(length, {length}));
  return cases;
}

void add_timing(MeasuredLines& all, const bench::RungTiming& t, int run) {
  if (!t.agreement.ok()) {
    all.failures.push_back(t.line.work + ", " + t.line.backend + ": " + t.agreement.message());
    return;
  }
  Measurement line = t.line;
  line.run = run;
  all.add(bench::to_json(line));
}

void add_ceilings(MeasuredLines& all, int threads, int run) {
  std::vector<Measurement> ceilings = bench::measure_bandwidth(threads, rounds_of_one_line);
  ceilings.push_back(bench::measure_gemm(threads, rounds_of_one_line));
  for (Measurement& line : ceilings) {
    line.run = run;
    all.add(bench::to_json(line));
  }
}

// One that is wrong, crashes or hangs is left out of all that follows: a hang costs the time limit once.
void time_plugins(MeasuredLines& all, const ladder::Case& c, std::vector<bench::Plugin>& plugins, int run,
                  const ladder::ChildOptions& child, Refusals& refusals) {
  std::erase_if(plugins, [&](const bench::Plugin& plugin) {
    const bench::PluginTiming one = bench::time_plugin(c, plugin, rounds_of_one_line, child);
    if (!one.refused.empty() && run == 1) refusals.add(plugin.rung.name, c.spec.name, one.refused);
    if (one.timing) add_timing(all, *one.timing, run);
    if (one.failure.empty()) return false;
    all.failures.push_back(plugin.rung.name + " on " + ladder::shown(c.spec.name) + ", not timed from there on: " +
                           one.failure);
    return true;
  });
}

}  // namespace

MeasuredLines measure_cpu_rungs(const ladder::Settings& settings, int rounds, bench::Introduced plugins,
                                const ladder::ChildOptions& child) {
  Progress progress;
  MeasuredLines all;
  all.failures = std::move(plugins.failures);
  Refusals refusals;
  all.add(bench::to_json(bench::this_machine()));
  std::vector<const ladder::Rung*> rungs;
  for (const ladder::Rung& rung : ladder::rungs()) {
    if (rung.device == Device::cpu) rungs.push_back(&rung);
  }
  for (int run = 1; run <= rounds; ++run) {
    progress.say("ceilings: copy, read and GEMM");
    add_ceilings(all, settings.thread_count(), run);
    for (const CaseSpec& spec : cpu_cases()) {
      const ladder::Case c = draw_case(spec);
      const auto timings = bench::time_rungs(c, rungs, settings, rounds_of_one_line,
                                             [&](const std::string& what) { progress.say(what); });
      for (const bench::RungTiming& t : timings) add_timing(all, t, run);
      if (!plugins.plugins.empty()) progress.say("plug-ins on " + spec.name);
      time_plugins(all, c, plugins.plugins, run, child, refusals);
    }
  }
  all.notes = refusals.sentences();
  progress.say("lanes of a plan");
  try {
    for (const bench::CtaProfile& lanes : bench::profile_lanes(skewed_case(), settings)) all.add(bench::to_json(lanes));
  } catch (const InputError& wrong) {
    all.failures.push_back(wrong.what());
  }
  return all;
}

}  // namespace flashladder::cli
