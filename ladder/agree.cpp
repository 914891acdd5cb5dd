#include "ladder/agree.hpp"

#include <chrono>
#include <limits>

#include "core/error.hpp"
#include "ladder/cases/memory/guarded_output.hpp"
#ifdef FLASHLADDER_CUDA
#include "ladder/gpu_run.hpp"
#endif

namespace flashladder::ladder {

double time_once(const std::function<void()>& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

RunResult run_rung(const Rung& rung, const Case& c, const Settings& settings, const Stopwatch& stopwatch) {
  const Support support = rung.supports(c.spec);
  require(static_cast<bool>(support), "rung", rung.name, support.reason.c_str());
#ifdef FLASHLADDER_CUDA
  if (rung.device == Device::gpu) return run_gpu_rung(rung, c, settings, stopwatch);
#endif
  const AttentionProblem problem = c.problem();
  const AttentionParams& p = problem.params;
  GuardedOutput output(problem.q.shape[0], p.num_qo_heads, p.head_dim_vo);
  GuardedBytes workspace(rung.workspace_bytes(c.spec, settings));
  std::fill_n(reinterpret_cast<float*>(workspace.data()), workspace.size() / sizeof(float),
              std::numeric_limits<float>::quiet_NaN());

  const AttentionOutput view = output.view();
  const Runner run = rung.prepare({problem, view, {workspace.data(), workspace.size()},
                                    rung.op == Op::mla ? c.mla() : MlaProblem{}},
                                   c.spec, settings);
  const double milliseconds = stopwatch([&] { run(nullptr); });

  const float* o = view.o.data_as<const float>();
  return {.o = {o, o + view.o.size()},
          .lse_log2 = {view.lse_log2.begin(), view.lse_log2.end()},
          .milliseconds = milliseconds,
          .guards_intact = output.guards_intact() && workspace.guards_intact()};
}

Comparison agree(const Case& c, const RunResult& rung, const RunResult* below, const Oracle& oracle) {
  Comparison worst = compare(c, rung.o, rung.lse_log2, oracle);
  if (below != nullptr) {
    const std::vector<double> o(below->o.begin(), below->o.end()), lse(below->lse_log2.begin(), below->lse_log2.end());
    const Comparison neighbour = compare(c, rung.o, rung.lse_log2, o, lse, oracle.tolerance, 2);
    if (is_worse(neighbour, worst)) worst = neighbour;
  }
  if (!rung.guards_intact) worst.complaint = "wrote outside of its output or workspace";
  return worst;
}

const Oracle& Oracles::of(const Rung& rung) {
  const Rounding rounding = rung.rounding(case_.spec);
  const auto found = made_.find(rounding);
  return found != made_.end() ? found->second : made_[rounding] = make_oracle(case_, rounding);
}

}  // namespace flashladder::ladder
