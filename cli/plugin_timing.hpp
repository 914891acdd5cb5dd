// --plugin of bench and climb: what both say of a user's kernel beside our rungs.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "bench/plugin_bench.hpp"
#include "ladder/arguments.hpp"

namespace flashladder::cli {

// --plugin and --time-limit.
struct TimedPlugins {
  std::vector<std::string> paths;
  float seconds = 60;  // for one case: to be checked, and once more to be timed

  void add_to(ladder::Command& command);
  void refuse_idle() const;  // --time-limit without a plug-in
  bool given() const { return !paths.empty(); }
  ladder::ChildOptions child() const { return {.seconds = seconds}; }
  bench::Introduced introduced() const;

 private:
  const ladder::Command* command_ = nullptr;
};

// "mine, NHD p16 is number 2 of 3 on decode ...": where each plug-in stands among the lines of the same case; ""
// without one.
std::string places_text(std::span<const bench::Measurement> lines);

// Cases that a plug-in does not take, told once with the first reason.
class Refusals {
 public:
  void add(const std::string& plugin, const std::string& on, const std::string& reason);
  std::vector<std::string> sentences() const;

 private:
  struct Refused {
    std::string plugin, first;
    int cases = 0;
  };
  std::vector<Refused> all_;
};

}  // namespace flashladder::cli
