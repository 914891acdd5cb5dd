// What the GPU tests of api/ work with: workspaces between guard bands, streams, graphs, and the buffers of one step.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "api/flashladder.hpp"
#include "gpu/check.hpp"
#include "gpu/device_buffer.hpp"
#include "gpu/device_problem.hpp"
#include "tests/api_cases.hpp"

namespace flashladder::test {

// Page-locked host memory.
class PinnedBuffer {
 public:
  explicit PinnedBuffer(std::size_t bytes) : size_(bytes) { gpu::check(cudaMallocHost(&data_, bytes)); }
  ~PinnedBuffer() { cudaFreeHost(data_); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  std::size_t size_;
};

// Exactly the bytes that were asked for, poisoned, between guard bands on both sides of the bus.
class GpuWorkspace {
 public:
  explicit GpuWorkspace(const api::WorkspaceBytes& bytes)
      : device_(bytes.device, band), staging_(bytes.staging + 2 * band), staging_bytes_(bytes.staging) {
    device_.poison();
    gpu::check(cudaDeviceSynchronize());  // the poison lies there before any stream writes
    std::memset(staging_.data(), guard, staging_.size());
  }
  api::Workspace view() const {
    return {.device = {device_.data(), device_.size()}, .staging = {staging_.data() + band, staging_bytes_}};
  }
  bool guards_intact() const {
    for (std::size_t i = 0; i < band; ++i) {
      const std::byte first = staging_.data()[i], last = staging_.data()[staging_.size() - 1 - i];
      if (first != std::byte{guard} || last != std::byte{guard}) return false;
    }
    return device_.guards_intact();
  }

 private:
  static constexpr std::size_t band = gpu::DeviceBuffer::guard_band;
  static constexpr int guard = 0xa5;
  gpu::DeviceBuffer device_;
  PinnedBuffer staging_;
  std::size_t staging_bytes_;
};

class GpuStream {
 public:
  GpuStream() { gpu::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~GpuStream() { cudaStreamDestroy(stream_); }
  GpuStream(const GpuStream&) = delete;
  GpuStream& operator=(const GpuStream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// What enqueue() puts on the stream, captured.
class GpuGraph {
 public:
  template <class Enqueue>
  GpuGraph(cudaStream_t stream, Enqueue&& enqueue) {
    cudaGraph_t graph = nullptr;
    gpu::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    enqueue();
    gpu::check(cudaStreamEndCapture(stream, &graph));
    gpu::check(cudaGraphInstantiate(&graph_, graph));
    gpu::check(cudaGraphDestroy(graph));
  }
  ~GpuGraph() { cudaGraphExecDestroy(graph_); }
  GpuGraph(const GpuGraph&) = delete;
  GpuGraph& operator=(const GpuGraph&) = delete;
  void launch(cudaStream_t stream) const { gpu::check(cudaGraphLaunch(graph_, stream)); }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

struct Result {
  DType o_dtype = DType::f32;
  std::vector<std::byte> o;
  std::vector<float> lse_log2;

  std::vector<float> floats() const {
    std::vector<float> values(o.size() / size_of(o_dtype));
    Tensor t = contiguous(const_cast<std::byte*>(o.data()), o_dtype, {static_cast<std::int64_t>(values.size())});
    reference::load_row(t, 0, static_cast<std::int64_t>(values.size()), values.data());
    return values;
  }
  // Bit by bit: a row that nobody wrote is the same poison on both sides.
  friend bool operator==(const Result& a, const Result& b) {
    return a.o == b.o && a.lse_log2.size() == b.lse_log2.size() &&
           std::memcmp(a.lse_log2.data(), b.lse_log2.data(), a.lse_log2.size() * sizeof(float)) == 0;
  }
};

// o and lse_log2 of some rows, poisoned, between guard bands.
class GpuOutput {
 public:
  GpuOutput(std::int32_t rows, const api::AttentionConfig& c)
      : rows_(rows), heads_(c.heads.num_qo_heads), dim_(c.heads.dim_vo()), dtype_(c.dtype_of_o()),
        o_(static_cast<std::size_t>(rows) * heads_ * dim_ * size_of(dtype_), gpu::DeviceBuffer::guard_band),
        lse_(static_cast<std::size_t>(rows) * heads_ * sizeof(float), gpu::DeviceBuffer::guard_band) {
    o_.poison();
    lse_.poison();
    gpu::check(cudaDeviceSynchronize());
  }
  AttentionOutput view() const {
    return {.o = contiguous(o_.data(), dtype_, {rows_, heads_, dim_}),
            .lse_log2 = {lse_.as<float>(), static_cast<std::size_t>(rows_ * heads_)}};
  }
  void poison(cudaStream_t stream) {
    gpu::check(cudaMemsetAsync(o_.data(), 0xff, o_.size(), stream));
    gpu::check(cudaMemsetAsync(lse_.data(), 0xff, lse_.size(), stream));
  }
  void copy_from(const GpuOutput& other, cudaStream_t stream) {
    gpu::check(cudaMemcpyAsync(o_.data(), other.o_.data(), o_.size(), cudaMemcpyDeviceToDevice, stream));
    gpu::check(cudaMemcpyAsync(lse_.data(), other.lse_.data(), lse_.size(), cudaMemcpyDeviceToDevice, stream));
  }
  // Waits for the stream.
  Result result(cudaStream_t stream) const {
    gpu::check(cudaStreamSynchronize(stream));
    Result r{.o_dtype = dtype_, .o = std::vector<std::byte>(o_.size()),
             .lse_log2 = std::vector<float>(lse_.size() / sizeof(float))};
    o_.download(r.o.data());
    lse_.download(r.lse_log2.data());
    if (!o_.guards_intact() || !lse_.guards_intact()) r.o.clear();  // equal to nothing that was written well
    return r;
  }

 private:
  std::int64_t rows_, heads_, dim_;
  DType dtype_;
  gpu::DeviceBuffer o_, lse_;
};

// One batch with its own buffers: q and o of `rows` rows (at least the batch), page ids.
struct Step {
  Batch batch;
  std::int64_t rows, heads, dim;
  DType dtype;
  gpu::DeviceBuffer q, indices;
  GpuOutput output;

  Step(const ladder::Case& c, Batch b, const api::AttentionConfig& config, std::int32_t min_rows = 0)
      : batch(std::move(b)), rows(std::max(batch.size(), min_rows)), heads(config.heads.num_qo_heads),
        dim(config.heads.head_dim_qk), dtype(config.cache.dtype),
        indices(batch.paged_kv_indices.data(), batch.paged_kv_indices.size() * sizeof(std::int32_t)),
        output(static_cast<std::int32_t>(rows), config) {
    const std::vector<std::byte> bytes = rows_of(c.q, batch, static_cast<std::size_t>(rows));
    q = gpu::DeviceBuffer(bytes.data(), bytes.size());
  }
  Tensor q_tensor() const { return contiguous(q.data(), dtype, {rows, heads, dim}); }
  std::span<const std::int32_t> page_ids() const { return {indices.as<std::int32_t>(), batch.paged_kv_indices.size()}; }
};

}  // namespace flashladder::test
