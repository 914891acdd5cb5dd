#include "ladder/gpu_run.hpp"

#include <cstring>
#include <span>

#include "gpu/check.hpp"
#include "gpu/poison.hpp"

namespace flashladder::ladder {

using gpu::DeviceBuffer;

GpuRun::GpuRun(const Rung& rung, const Case& c, const gpu::DeviceProblem& problem, const Settings& settings)
    : GpuRun(rung, c, Buffers{.problem = problem.view(), .output = {}, .workspace = {}}, settings, DType::f32) {}
GpuRun::GpuRun(const Rung& rung, const Case& c, const DeviceCase& on_device, const Settings& settings,
               DType o_dtype)
    : GpuRun(rung, c, on_device.buffers(), settings, o_dtype) {}

GpuRun::GpuRun(const Rung& rung, const Case& c, Buffers buffers, const Settings& settings, DType o_dtype)
    : rows_(c.spec.nnz_qo()), heads_(c.spec.params.num_qo_heads), dim_(c.spec.params.head_dim_vo), o_dtype_(o_dtype),
      o_(static_cast<std::size_t>(rows_ * heads_ * dim_) * size_of(o_dtype), DeviceBuffer::guard_band),
      lse_log2_(static_cast<std::size_t>(rows_ * heads_) * sizeof(float), DeviceBuffer::guard_band),
      workspace_(rung.workspace_bytes(c.spec, settings), DeviceBuffer::guard_band) {
  poison();
  buffers.output = {.o = contiguous(o_.data(), o_dtype, {rows_, heads_, dim_}),
                    .lse_log2 = {lse_log2_.as<float>(), lse_log2_.size() / sizeof(float)}};
  buffers.workspace = {workspace_.data(), workspace_.size()};
  run_ = rung.prepare(buffers, c.spec, settings);
}

namespace {

template <class T>
std::vector<float> floats_of(std::span<const std::byte> bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return {values.begin(), values.end()};
}
std::vector<float> floats_of(std::span<const std::byte> bytes, DType dtype) {
  if (dtype == DType::f16) return floats_of<Half>(bytes);
  return dtype == DType::bf16 ? floats_of<BFloat16>(bytes) : floats_of<float>(bytes);
}

}  // namespace

void GpuRun::poison() {
  o_.poison();
  lse_log2_.poison();
  workspace_.poison();
  gpu::poison_shared_memory(nullptr);
  gpu::check(cudaStreamSynchronize(nullptr));  // a run may follow on a stream that does not wait for this one
}

RunResult GpuRun::result() const {
  std::vector<std::byte> o(o_.size());
  o_.download(o.data());
  RunResult result{.o = floats_of(o, o_dtype_), .lse_log2 = std::vector<float>(lse_log2_.size() / sizeof(float))};
  lse_log2_.download(result.lse_log2.data());
  result.guards_intact = o_.guards_intact() && lse_log2_.guards_intact() && workspace_.guards_intact();
  return result;
}

RunResult run_gpu_rung(const Rung& rung, const Case& c, const Settings& settings, const Stopwatch& stopwatch) {
  const DeviceCase on_device(c, rung.op);
  const GpuRun run(rung, c, on_device, settings);
  const double milliseconds = stopwatch([&] {
    run.enqueue(nullptr);
    gpu::check(cudaStreamSynchronize(nullptr));  // what went wrong in a kernel is thrown here
  });
  RunResult result = run.result();
  result.milliseconds = milliseconds;
  return result;
}

}  // namespace flashladder::ladder
