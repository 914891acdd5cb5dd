// bench/gpu_bench.hpp where the GPU's part is not built.
#include <stdexcept>

#include "api/placement.hpp"
#include "bench/gpu_bench.hpp"

namespace flashladder::bench {
namespace {

[[noreturn]] void no_gpu() { throw std::logic_error(why_no_gpu()); }

}  // namespace

std::string why_no_gpu() { return api::why_no_gpu(); }

GpuMachine gpu_machine() { no_gpu(); }
std::shared_ptr<GpuTimer> gpu_timer() { no_gpu(); }
std::vector<Measurement> time_ceilings(const GpuTimer&) { no_gpu(); }
Measurement time_floor(const GpuTimer&, const TimedWork&) { no_gpu(); }
std::vector<TimedWork> prepare_gemm(const std::shared_ptr<GpuTimer>&) { no_gpu(); }
ladder::RunResult time_plugin_on_gpu(const ladder::Rung&, const ladder::Case&) { no_gpu(); }
std::vector<TimedWork> prepare(Family, const GpuWorkOptions&, const std::shared_ptr<GpuTimer>&,
                               const std::function<void(const std::string&)>&) {
  no_gpu();
}
std::vector<CtaProfile> profile_ctas(std::vector<ladder::CaseSpec>, const GpuTimer&,
                                     const std::function<void(const std::string&)>&) {
  no_gpu();
}

}  // namespace flashladder::bench
