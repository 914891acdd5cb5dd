#include "ladder/plugin/run_twice.hpp"

#include <cstring>

#include "ladder/plugin/fenced.hpp"
#ifdef FLASHLADDER_CUDA
#include "gpu/check.hpp"
#include "ladder/gpu_run.hpp"
#endif

namespace flashladder::ladder {
namespace {

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

TwoRuns on_cpu(const Rung& rung, const Case& c) {
  const AttentionParams& p = c.spec.params;
  const std::int64_t rows = c.q.shape[0];
  const std::size_t lse_size = static_cast<std::size_t>(rows * p.num_qo_heads), o_size = lse_size * p.head_dim_vo;
  const FencedInputs inputs(c);
  const Fenced o(o_size * sizeof(float)), lse(lse_size * sizeof(float)), workspace(rung.workspace_bytes(c.spec, {}));
  const auto* o_data = reinterpret_cast<const float*>(o.data());
  auto* lse_data = reinterpret_cast<float*>(lse.data());
  const AttentionOutput output{.o = contiguous(o.data(), DType::f32, {rows, p.num_qo_heads, p.head_dim_vo}),
                               .lse_log2 = {lse_data, lse_size}};
  const auto results = [&] {
    return RunResult{.o = {o_data, o_data + o_size}, .lse_log2 = {lse_data, lse_data + lse_size}};
  };
  const auto poison = [&] { o.fill_with_nan(), lse.fill_with_nan(); };

  TwoRuns runs;
  poison();
  workspace.fill_with_nan();
  {
    const Runner run = rung.prepare({inputs.problem(), output, workspace.bytes()}, c.spec, {});
    run(nullptr);
    runs.first = results();
    poison();
    run(nullptr);
  }  // released: what release() writes is seen too
  const RunResult second = results();
  runs.same_bits = same(runs.first.o, second.o) && same(runs.first.lse_log2, second.lse_log2);
  runs.modified = inputs.modified();
  const std::string around = inputs.written_around();
  runs.written_outside = !o.guards_intact()           ? "o"
                         : !lse.guards_intact()       ? "lse_log2"
                         : !workspace.guards_intact() ? "its workspace"
                         : !around.empty()            ? "the input " + around
                                                      : "";
  return runs;
}

#ifdef FLASHLADDER_CUDA
bool differs(const void* device, const OwnedTensor& host) {
  std::vector<std::byte> copy(host.bytes.size());
  if (copy.empty()) return false;
  gpu::check(cudaMemcpy(copy.data(), device, copy.size(), cudaMemcpyDeviceToHost));
  return copy != host.bytes;
}

// Guard bands lie around o, lse_log2 and the workspace; of the inputs, q, K and V are compared with what was uploaded.
TwoRuns on_gpu(const Rung& rung, const Case& c) {
  const gpu::DeviceProblem problem(c.problem());
  GpuRun run(rung, c, problem, {});
  TwoRuns runs;
  const auto once = [&]() -> RunResult {
    run.enqueue(nullptr);
    const cudaError_t in_a_kernel = cudaStreamSynchronize(nullptr), of_a_launch = cudaGetLastError();
    const cudaError_t error = in_a_kernel != cudaSuccess ? in_a_kernel : of_a_launch;
    if (error == cudaSuccess) return run.result();
    const bool kernel = in_a_kernel != cudaSuccess;
    runs.cuda_error = std::string(kernel ? "a kernel ended with " : "a call in prepare() or run() left ") +
                      cudaGetErrorName(error) + ": " + cudaGetErrorString(error);
    return {};
  };
  runs.first = once();
  if (!runs.cuda_error.empty()) return runs;
  run.poison();
  const RunResult second = once();
  if (!runs.cuda_error.empty()) return runs;
  runs.same_bits = same(runs.first.o, second.o) && same(runs.first.lse_log2, second.lse_log2);
  if (!runs.first.guards_intact || !second.guards_intact) runs.written_outside = "o, lse_log2 or its workspace";
  const PagedKvCache& kv = problem.view().kv;
  if (differs(problem.view().q.data, c.q)) runs.modified = "q";
  if (c.spec.one_cache_tensor() && differs(kv.k, c.kv_cache)) runs.modified = "kv_cache";
  if (!c.spec.one_cache_tensor() && differs(kv.k, c.k_cache)) runs.modified = "k_cache";
  if (!c.spec.one_cache_tensor() && differs(kv.v, c.v_cache)) runs.modified = "v_cache";
  return runs;
}
#endif

}  // namespace

TwoRuns run_twice(const Rung& rung, const Case& c) {
#ifdef FLASHLADDER_CUDA
  if (rung.device == Device::gpu) return on_gpu(rung, c);
#endif
  if (rung.device == Device::gpu) throw std::runtime_error("it wants a GPU, and this program was built without CUDA");
  return on_cpu(rung, c);
}

}  // namespace flashladder::ladder
