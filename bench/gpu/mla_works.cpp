// Family mla: every GPU rung of latent attention, checked against L3 and the double oracle, and then timed by events, the L2
// flushed.
#include <algorithm>
#include <memory>
#include <optional>

#include "bench/gpu/families.hpp"
#include "bench/sampled_check.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/gpu_run.hpp"

namespace flashladder::bench {
namespace {

using ladder::Case;
using ladder::CaseSpec;
using ladder::Rung;
using ladder::RunResult;

// A case on the host, what L3 gives, and the case on the GPU.
struct Prepared {
  Case c;
  RunResult below;
  ladder::DeviceMlaProblem problem;

  explicit Prepared(const CaseSpec& spec)
      : c(draw_case(spec)), below(run_rung(ladder::rung("L3"), c)), problem(c.mla()) {}
};

struct RungRun {
  std::shared_ptr<Prepared> prepared;
  ladder::GpuRun run;
  RunResult checked{};

  RungRun(const Rung& rung, std::shared_ptr<Prepared> p)
      : prepared(std::move(p)), run(rung, prepared->c, prepared->problem, ladder::Settings{}) {}
  void enqueue(void* stream) const { run.enqueue(static_cast<cudaStream_t>(stream)); }
  RunResult once(const GpuTimer& timer) {
    run.poison();
    enqueue(timer.stream());
    timer.synchronise();
    return run.result();
  }
  // "", or how the output of the last run differs from the one that was checked.
  std::string difference() const {
    const RunResult now = run.result();
    return now.o == checked.o && now.lse_log2 == checked.lse_log2 ? "" : "gave other bits than the run that was checked";
  }
};

bool wanted(const GpuWorkOptions& options, const Rung& rung, const CaseSpec& spec) {
  const bool asked = options.mla_rungs.empty() || std::ranges::find(options.mla_rungs, &rung) != options.mla_rungs.end();
  return asked && rung.device == Device::gpu && !options.late() && rung.supports(spec);
}

}  // namespace

std::vector<TimedWork> mla_works(const GpuWorkOptions& options, const Timer& timer, const Say& say) {
  std::vector<TimedWork> works;
  for (const CaseSpec& spec : options.specs.empty() ? mla_cases() : options.specs) {
    std::shared_ptr<Prepared> prepared;
    for (const Rung& rung : ladder::mla_rungs()) {
      if (!wanted(options, rung, spec)) continue;
      if (!prepared) say("drawing " + spec.name), prepared = std::make_shared<Prepared>(spec);
      say("checking " + rung.name + " on " + spec.name);
      const auto run = std::make_shared<RungRun>(rung, prepared);
      run->checked = run->once(*timer);
      const SampledOracle sample = sampled_oracle(prepared->c, rung.rounding(spec));
      const ladder::Comparison comparison = agree(prepared->c, run->checked, &prepared->below, sample);
      Measurement line{.family = name_of(Family::mla), .work = spec.name, .backend = "flashladder " + rung.name};
      line.nearest = {comparison.worst().error, comparison.worst().tolerance};
      works.push_back({.line = line,
                       .bytes = mla_bytes(spec), .flops = mla_flops(spec), .floor = Floor::read,
                       .checked = "all equals L3, " + sample.text() + " equal the double oracle",
                       .failure = comparison.message(),
                       .time_us = [=] { return timer->event_us([&](void* stream) { run->enqueue(stream); }); },
                       .recheck = [=] { return run->difference(); }});
    }
  }
  return works;
}

}  // namespace flashladder::bench
