#include "bench/plugin_bench.hpp"

#include <algorithm>
#include <utility>

#include "bench/timing.hpp"
#include "core/error.hpp"
#include "ladder/agree.hpp"
#include "ladder/plugin/python_plugin.hpp"

namespace flashladder::bench {
namespace {

using ladder::Case;
using ladder::ChildRun;
using ladder::Ending;

bool is_taken(const std::string& name, const std::vector<Plugin>& plugins) {
  return std::ranges::any_of(ladder::rungs(), [&](const ladder::Rung& r) { return r.name == name; }) ||
         std::ranges::any_of(plugins, [&](const Plugin& p) { return p.rung.name == name; });
}

}  // namespace

Introduced introduced(std::span<const std::string> paths, const ladder::ChildOptions& options) {
  Introduced all;
  for (const std::string& path : paths) {  // refused before any of them is run
    require(!ladder::is_python(path), "--plugin", path,
            "a plug-in in Python is verified and not timed, because every run is a question to another process: flashladder "
            "verify --plugin");
  }
  for (const std::string& path : paths) {
    ladder::Introduction introduction = ladder::introduce(path, options);
    if (introduction.run.ending != Ending::finished) {
      all.failures.push_back(path + ", not timed: " + name_of(introduction.run.ending) + ": " + introduction.run.message);
      continue;
    }
    const std::string name = introduction.rung.name;
    for (int n = 2; is_taken(introduction.rung.name, all.plugins); ++n) {
      introduction.rung.name = name + "-" + std::to_string(n);
    }
    all.plugins.push_back({path, std::move(introduction.rung)});
  }
  return all;
}

PluginAnswer::PluginAnswer(const Case& c, ladder::Rounding rounding)
    : below_(run_rung(ladder::rung("C4"), c)), oracle_(sampled_oracle(c, rounding)) {}

ladder::Comparison PluginAnswer::compare(const Case& c, const ladder::RunResult& result) const {
  ladder::Comparison comparison = agree(c, result, &below_, oracle_);
  comparison.complaint.clear();  // guard bands: the ending says more
  return comparison;
}

std::string PluginAnswer::why_wrong(const Case& c, const ChildRun& run) const {
  if (run.ending != Ending::finished) return name_of(run.ending) + (run.message.empty() ? "" : ": " + run.message);
  const ladder::Comparison comparison = compare(c, run.result);
  if (comparison.ok()) return "";
  return (comparison.verdict() == ladder::Verdict::fail ? "wrong result: " : "undecided: ") + comparison.message();
}

ladder::TimedRun host_clock(int rounds) {
  return [rounds](const ladder::Rung& plugin, const Case& c) {
    return run_rung(plugin, c, {}, [&](const std::function<void()>& run) { return median_ms(rounds, run); });
  };
}

PluginTiming time_plugin(const Case& c, const Plugin& plugin, int rounds, const ladder::ChildOptions& options) {
  const ChildRun checked = run_in_child(plugin.path, c, options);
  if (checked.ending == Ending::refused) return {.refused = checked.message};
  const PluginAnswer answer(c, plugin.rung.rounding(c.spec));
  if (const std::string wrong = answer.why_wrong(c, checked); !wrong.empty()) return {.failure = wrong};
  const ChildRun timed = time_in_child(plugin.path, c, host_clock(rounds), options);
  if (const std::string wrong = answer.why_wrong(c, timed); !wrong.empty()) {
    return {.failure = "while it was timed: " + wrong};
  }
  ladder::Comparison agreement = answer.compare(c, timed.result);
  Measurement line = cpu_line(c.spec, plugin.backend(), timed.result.milliseconds, 0);
  line.nearest = {agreement.worst().error, agreement.worst().tolerance};
  return {.timing = RungTiming{std::move(line), plugin.rung.name, plugin.rung.must_equal, answer.sample(),
                               std::move(agreement)},
          .result = timed.result};
}

}  // namespace flashladder::bench
