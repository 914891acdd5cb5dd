// A rung's run of a case on the GPU, with every buffer there: prepared once, repeated as often as a test or a benchmark
// likes. Compiled only with CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include <optional>

#include "gpu/device_buffer.hpp"
#include "gpu/device_problem.hpp"
#include "ladder/agree.hpp"
#include "ladder/device_mla_problem.hpp"
#include "ladder/rung.hpp"

namespace flashladder::ladder {

// A case on the GPU, as rungs of an op take it.
class DeviceCase {
 public:
  DeviceCase(const Case& c, Op op) {
    if (op == Op::mla) latent_.emplace(c.mla());
    else attention_.emplace(c.problem());
  }
  // Without output and workspace.
  Buffers buffers() const {
    return {.problem = attention_ ? attention_->view() : AttentionProblem{}, .output = {}, .workspace = {},
            .mla = latent_ ? latent_->view() : MlaProblem{}};
  }

 private:
  std::optional<gpu::DeviceProblem> attention_;
  std::optional<DeviceMlaProblem> latent_;
};

class GpuRun {
 public:
  // Allocates output and workspace, poisoned and between guard bands, and prepares the rung. problem, on_device: c's, and it
  // outlives this object; several runs may share it. DeviceCase: of the rung's op.
  GpuRun(const Rung& rung, const Case& c, const gpu::DeviceProblem& problem, const Settings& settings);
  GpuRun(const Rung& rung, const Case& c, const DeviceCase& on_device, const Settings& settings,
         DType o_dtype = DType::f32);  // f32, f16 or bf16

  void enqueue(cudaStream_t stream) const { run_(stream); }
  void poison();             // output and workspace as they were before the first run; returns when they are
  RunResult result() const;  // of a run that has finished: the caller waited for its stream

 private:
  GpuRun(const Rung& rung, const Case& c, Buffers buffers, const Settings& settings, DType o_dtype);

  std::int64_t rows_;  // of o and lse_log2, for each head
  std::int32_t heads_, dim_;
  DType o_dtype_;
  gpu::DeviceBuffer o_, lse_log2_, workspace_;
  Runner run_;
};

// As run_rung, on the GPU. The stopwatch sees the launches and the wait for them.
RunResult run_gpu_rung(const Rung& rung, const Case& c, const Settings& settings, const Stopwatch& stopwatch);

}  // namespace flashladder::ladder
