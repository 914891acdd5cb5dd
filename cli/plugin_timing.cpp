#include "cli/plugin_timing.hpp"

#include <algorithm>

#include "bench/placing.hpp"
#include "cli/console.hpp"
#include "cli/options.hpp"
#include "core/error.hpp"

namespace flashladder::cli {
namespace {

std::string without_kind(const std::string& backend) { return backend.substr(backend.find(' ') + 1); }

}  // namespace

void TimedPlugins::add_to(ladder::Command& command) {
  command_ = &command;
  command.add("--plugin", &paths, "A kernel of your own beside the rungs (docs/bring-your-own-kernel.md)",
              {.value = "FILE"});
  command.add("--time-limit", &seconds, "Seconds that a plug-in has for one case", {.least = 0});
}

void TimedPlugins::refuse_idle() const {
  cli::refuse_idle(*command_, "--time-limit", !given(), "without --plugin");
  require(seconds > 0, "--time-limit", std::to_string(seconds), "must be more than 0 seconds");
}

bench::Introduced TimedPlugins::introduced() const { return bench::introduced(paths, child()); }

std::string places_text(std::span<const bench::Measurement> lines) {
  std::string text;
  for (const bench::Place& p : bench::places_of(lines)) {
    std::string line = without_kind(p.backend) + " is number " + std::to_string(p.place) + " of " + std::to_string(p.of) +
                       " on " + p.work;
    if (p.faster) line += "; " + without_kind(p.faster->backend) + " is " + short_number(p.faster->times) + " times as fast";
    if (p.slower) {
      line += "; it is " + short_number(p.slower->times) + " times as fast as " + without_kind(p.slower->backend);
    }
    text += paragraph(line + ".", 2);
  }
  return text.empty() ? "" : "\n" + text;
}

void Refusals::add(const std::string& plugin, const std::string& on, const std::string& reason) {
  const auto known = std::ranges::find(all_, plugin, &Refused::plugin);
  if (known != all_.end()) {
    ++known->cases;
  } else {
    all_.push_back({plugin, on + ": " + reason, 1});
  }
}

std::vector<std::string> Refusals::sentences() const {
  std::vector<std::string> sentences;
  for (const Refused& r : all_) {
    sentences.push_back(r.plugin + " does not take " + counted(r.cases, "case") + ", the first: " + r.first);
  }
  return sentences;
}

}  // namespace flashladder::cli
