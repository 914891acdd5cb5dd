// Timing on a GPU, as the command line sees it: no CUDA in here, and without CUDA or a GPU only why_no_gpu() has an answer.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/cta_profile.hpp"
#include "bench/gpu_cases.hpp"
#include "bench/measurement.hpp"
#include "bench/timed_work.hpp"
#include "ladder/agree.hpp"
#include "ladder/rung.hpp"

namespace flashladder::bench {

class GpuTimer;  // bench/gpu/timer.hpp

// "" if there is a GPU to time on, else one sentence.
std::string why_no_gpu();

// These want a GPU.
GpuMachine gpu_machine();
std::shared_ptr<GpuTimer> gpu_timer();
std::vector<Measurement> time_ceilings(const GpuTimer& timer);  // families copy and read, 4 GiB
Measurement time_floor(const GpuTimer& timer, const TimedWork& work);

// A matrix product by the toolkit's cuBLAS, which is loaded now, if it is there: one work, or none. Its output is checked.
std::vector<TimedWork> prepare_gemm(const std::shared_ptr<GpuTimer>& timer);
// A plug-in's median by the same timer; called in a process of its own (bench/plugin_host.hpp).
ladder::RunResult time_plugin_on_gpu(const ladder::Rung& plugin, const ladder::Case& c);

struct GpuWorkOptions {
  std::vector<const ladder::Rung*> rungs;     // decode and graph: which, in the ladder's order
  std::vector<const ladder::Rung*> ladder_rungs{};  // prefill-ladder: the same; none: all
  std::vector<const ladder::Rung*> mla_rungs{};     // mla: the same; none: all
  std::vector<ladder::Settings> settings{{}};  // ... and each of them with which plans; one line each
  std::vector<ladder::CaseSpec> specs;        // instead of the chosen cases; attention and plan only
  // Cases of attention whose turn comes later are left out.
  std::optional<std::chrono::steady_clock::time_point> until = {};
  bool late() const { return until && std::chrono::steady_clock::now() > *until; }
};
// Draws, uploads, runs once and checks. say(text) is told what happens next.
std::vector<TimedWork> prepare(Family family, const GpuWorkOptions& options, const std::shared_ptr<GpuTimer>& timer,
                               const std::function<void(const std::string&)>& say);

// Stamps of the top rung's CTAs, one profile a case and policy (balanced, none); no specs: four of the decode cases. The
// output of each is compared as above; InputError if it is wrong.
std::vector<CtaProfile> profile_ctas(std::vector<ladder::CaseSpec> specs, const GpuTimer& timer,
                                     const std::function<void(const std::string&)>& say);

}  // namespace flashladder::bench
