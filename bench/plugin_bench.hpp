// A user's kernel beside our rungs: it is checked first, and timed if it is right, on the same cases by the same clock. It
// runs in processes of its own (ladder/plugin/child.hpp), so that one that crashes or hangs costs its line and no more.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/rung_bench.hpp"
#include "bench/sampled_check.hpp"
#include "ladder/plugin/child.hpp"

namespace flashladder::bench {

// A library that introduced itself: rung has its name and how it rounds, and no functions.
struct Plugin {
  std::string path;
  ladder::Rung rung;

  std::string backend() const { return "plug-in " + rung.name; }  // of its lines
};

struct Introduced {
  std::vector<Plugin> plugins;        // a second "mine", and one that is called as a rung, gets a number: "mine-2"
  std::vector<std::string> failures;  // those whose entry point crashes or hangs
};
// Throws InputError for a file that is no plug-in, and for one in Python, which is not timed.
Introduced introduced(std::span<const std::string> paths, const ladder::ChildOptions& options);

// What a case should give: C4's whole output, and the double oracle on a sample of the heads.
class PluginAnswer {
 public:
  PluginAnswer(const ladder::Case& c, ladder::Rounding rounding);
  // Borrows c's lengths, not its tensors.
  ladder::Comparison compare(const ladder::Case& c, const ladder::RunResult& result) const;
  // "", or what is wrong with a run: "crashed: Segmentation fault in run()", "wrong result: o: request 0 ...".
  std::string why_wrong(const ladder::Case& c, const ladder::ChildRun& run) const;
  std::string sample() const { return oracle_.text(); }

 private:
  ladder::RunResult below_;
  SampledOracle oracle_;
};

// One of timing, refused and failure.
struct PluginTiming {
  std::optional<RungTiming> timing = {};
  ladder::RunResult result = {};  // of the timing's last run
  std::string refused = {};  // why it does not compute the case
  std::string failure = {};  // what is wrong: it is not timed, or its line does not count
};

// How a plug-in's median of `rounds` runs is taken by the host's clock, as that of a rung (time_rungs). Called in a child.
ladder::TimedRun host_clock(int rounds);

// By the host's clock.
PluginTiming time_plugin(const ladder::Case& c, const Plugin& plugin, int rounds, const ladder::ChildOptions& options);

}  // namespace flashladder::bench
