// Family mla: every GPU rung of latent attention, timed by events, the L2 flushed. Before, each run's whole output in f32 is
// compared with L3's, and a sample of its heads with the double oracle; both are made ahead, on all cores. What is timed then
// writes o in the dtype of q, as the peers do, and must give the same numbers rounded once.
#include <algorithm>
#include <memory>
#include <utility>

#include "bench/gpu/expected.hpp"
#include "bench/gpu/families.hpp"
#include "ladder/gpu_run.hpp"

namespace flashladder::bench {
namespace {

using ladder::CaseSpec;
using ladder::DeviceCase;
using ladder::Rung;
using ladder::RunResult;

RunResult once(ladder::GpuRun& run, const GpuTimer& timer) {
  run.poison();
  run.enqueue(static_cast<cudaStream_t>(timer.stream()));
  timer.synchronise();
  return run.result();
}

std::vector<float> rounded(std::vector<float> o, DType dtype) {
  for (float& x : o) x = dtype == DType::f16 ? static_cast<float>(Half(x)) : static_cast<float>(BFloat16(x));
  return o;
}

struct RungRun {
  std::shared_ptr<const DeviceCase> on_device;  // which outlives the case on the host
  ladder::GpuRun run;
  RunResult checked;  // o rounded

  RungRun(const Rung& rung, const ladder::Case& c, std::shared_ptr<const DeviceCase> p, RunResult in_f32)
      : on_device(std::move(p)), run(rung, c, *on_device, ladder::Settings{}, c.spec.dtype), checked(std::move(in_f32)) {
    checked.o = rounded(std::move(checked.o), c.spec.dtype);
  }
  void enqueue(void* stream) const { run.enqueue(static_cast<cudaStream_t>(stream)); }
  // "", or how the output of the last run differs from the one that was checked.
  std::string difference() const {
    const RunResult now = run.result();
    return now.o == checked.o && now.lse_log2 == checked.lse_log2 ? "" : "gave other numbers than the run that was checked";
  }
};

std::vector<const Rung*> wanted(const GpuWorkOptions& options) {
  std::vector<const Rung*> rungs;
  for (const Rung& rung : ladder::mla_rungs()) {
    const bool asked = options.mla_rungs.empty() || std::ranges::find(options.mla_rungs, &rung) != options.mla_rungs.end();
    if (asked && rung.device == Device::gpu) rungs.push_back(&rung);
  }
  return rungs;
}

TimedWork work_of(const Rung& rung, const Expected& expected, const std::shared_ptr<const DeviceCase>& on_device,
                  const Timer& timer) {
  const CaseSpec& spec = expected.c.spec;
  ladder::GpuRun in_f32(rung, expected.c, *on_device, ladder::Settings{});
  RunResult result = once(in_f32, *timer);
  const ladder::Comparison comparison = expected.compare(result, rung.rounding(spec));
  const auto run = std::make_shared<RungRun>(rung, expected.c, on_device, std::move(result));
  return {.line = {.family = name_of(Family::mla), .work = spec.name, .backend = "flashladder " + rung.name,
                   .nearest = {{comparison.worst().error, comparison.worst().tolerance}}},
          .bytes = mla_bytes(spec), .flops = mla_flops(spec), .floor = Floor::read, .checked = expected.text(),
          .failure = comparison.message(),
          .time_us = [=] { return timer->event_us([&](void* stream) { run->enqueue(stream); }); },
          .recheck = [=] { return run->difference(); }};
}

}  // namespace

std::vector<TimedWork> mla_works(const GpuWorkOptions& options, const Timer& timer, const Say& say) {
  const std::vector<const Rung*> rungs = wanted(options);
  std::vector<CaseSpec> specs = options.specs.empty() ? mla_cases() : options.specs;
  std::erase_if(specs, [&](const CaseSpec& spec) {
    return std::ranges::none_of(rungs, [&](const Rung* rung) { return static_cast<bool>(rung->supports(spec)); });
  });
  ExpectedAhead ahead(specs, roundings_of(rungs, specs));
  std::vector<TimedWork> works;
  for (const CaseSpec& spec : specs) {
    if (options.late()) break;
    say("drawing " + spec.name);
    const Expected expected = ahead.next();
    const auto on_device = std::make_shared<const DeviceCase>(expected.c, ladder::Op::mla);
    for (const Rung* rung : rungs) {
      if (options.late() || !rung->supports(spec)) continue;
      say("checking " + rung->name + " on " + spec.name);
      works.push_back(work_of(*rung, expected, on_device, timer));
    }
  }
  return works;
}

}  // namespace flashladder::bench
