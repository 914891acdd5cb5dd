// Family prefill-ladder: every prefill rung of the registry that takes the case, on the same data, so that a table shows
// what each rung gained. A rung that the registry gets later is timed without a line here.
#include <algorithm>
#include <chrono>
#include <memory>

#include "bench/gpu/families.hpp"
#include "bench/gpu/prefill_data.hpp"
#include "ladder/rung.hpp"

namespace flashladder::bench {
namespace {

// A rung that takes longer for a run is left out: repeated for a median, it would keep everybody waiting.
constexpr std::chrono::seconds most_time{1};

struct RungRun {
  std::shared_ptr<PrefillData> data;
  gpu::DeviceBuffer workspace;
  ladder::Runner run;

  RungRun(const ladder::Rung& rung, std::shared_ptr<PrefillData> data_) : data(std::move(data_)) {
    const ladder::CaseSpec& spec = data->spec();
    workspace = gpu::DeviceBuffer(rung.workspace_bytes(spec, {}), gpu::DeviceBuffer::guard_band);
    workspace.poison();
    run = rung.prepare({data->problem(), data->output(), {workspace.data(), workspace.size()}}, spec, {});
  }
};

// Of one run, which also loads the kernel: the second of two.
std::chrono::duration<double> time_of_a_run(const RungRun& run, const GpuTimer& timer) {
  std::chrono::duration<double> time{};
  for (int i = 0; i < 2 && time < most_time; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    run.run(timer.stream());
    timer.synchronise();
    time = std::chrono::steady_clock::now() - begin;
  }
  return time;
}

}  // namespace

std::vector<TimedWork> prefill_ladder_works(const GpuWorkOptions& options, const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  for (const PrefillCase& c : chosen_or(options.specs, prefill_ladder_cases)) {
    const auto data = std::make_shared<PrefillData>(c.spec);
    for (const ladder::Rung& rung : ladder::rungs()) {
      const auto& asked = options.ladder_rungs;
      const bool wanted = asked.empty() || std::ranges::find(asked, &rung) != asked.end();
      if (!wanted || rung.device != Device::gpu || options.late() || !rung.supports(data->spec())) continue;
      say("checking " + rung.name + " on " + c.spec.name);
      const auto run = std::make_shared<RungRun>(rung, data);
      if (time_of_a_run(*run, *timer) > most_time) continue;
      PrefillData::Check check = data->check(*timer, run->run);
      if (check.failure.empty() && !run->workspace.guards_intact()) check.failure = "wrote outside of its workspace";
      works.push_back({.line = {.family = name_of(Family::prefill_ladder), .work = c.spec.name,
                                .backend = "flashladder " + rung.name, .error = check.error, .nearest = check.nearest},
                       .bytes = c.bytes(), .flops = c.flops(), .checked = checked_rows, .failure = check.failure,
                       .time_us = [=] { return timer->event_us(run->run); }});
    }
  }
  return works;
}

}  // namespace flashladder::bench
