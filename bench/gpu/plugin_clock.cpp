// A plug-in on the GPU's clock: events around one run, the L2 flushed before each, as decode rungs are timed.
#include "bench/gpu/timer.hpp"
#include "bench/gpu_bench.hpp"
#include "gpu/check.hpp"
#include "gpu/device_problem.hpp"
#include "ladder/gpu_run.hpp"

namespace flashladder::bench {

ladder::RunResult time_plugin_on_gpu(const ladder::Rung& plugin, const ladder::Case& c) {
  const gpu::DeviceProblem problem(c.problem());
  const ladder::GpuRun run(plugin, c, problem, {});
  const GpuTimer timer;
  const double us = timer.event_us([&](void* stream) { run.enqueue(static_cast<cudaStream_t>(stream)); });
  timer.synchronise();
  gpu::check(cudaGetLastError());  // what a launch left behind
  ladder::RunResult result = run.result();  // of the run that came last
  result.milliseconds = 1e-3 * us;
  return result;
}

}  // namespace flashladder::bench
