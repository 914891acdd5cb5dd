// The model's own operations on the GPU: cuBLAS for the matrices, three small kernels, and one captured graph for all decode
// steps. Weights and activations are f16, sums are float, logits are f32.
//
// A decode step is always the same launches on the same memory (model.hpp keeps a step's indices in one place, and the
// library's CUDAGraph class its plan), so it is captured once and launched as one graph from then on.
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

#include "backend.hpp"
#include "gpu_kernels.hpp"

namespace {

void check(cudaError_t code) {
  if (code != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(code));
}
void check(cublasStatus_t code) {
  if (code != CUBLAS_STATUS_SUCCESS) throw std::runtime_error(std::string("cuBLAS: ") + cublasGetStatusString(code));
}

// When each part of some launches ends. Of captured ones the events are nodes of the graph, which every replay records anew.
class Marks {
 public:
  void add(Part part, cudaStream_t stream, bool capturing) {
    cudaEvent_t event = nullptr;
    check(cudaEventCreate(&event));
    check(cudaEventRecordWithFlags(event, stream, capturing ? cudaEventRecordExternal : cudaEventRecordDefault));
    events_.push_back({part, event});
  }
  void clear() {
    for (const Mark& mark : events_) cudaEventDestroy(mark.event);
    events_.clear();
  }
  // After the stream is done. The first mark is the beginning.
  Milliseconds times() const {
    Milliseconds times{};
    for (std::size_t i = 1; i < events_.size(); ++i) {
      float ms = 0;
      check(cudaEventElapsedTime(&ms, events_[i - 1].event, events_[i].event));
      times[static_cast<std::size_t>(events_[i].part)] += ms;
    }
    return times;
  }

 private:
  struct Mark {
    Part part;
    cudaEvent_t event;
  };
  std::vector<Mark> events_;
};

class GpuBackend final : public Backend {
 public:
  explicit GpuBackend(bool measure_parts) : measure_parts_(measure_parts) {
    if (const std::string& why = api::why_no_gpu(); !why.empty()) throw std::runtime_error("--device = gpu: " + why);
    check(cudaStreamCreate(&stream_));
    check(cublasCreate(&blas_));
    check(cublasSetStream(blas_, stream_));
    check(cublasSetMathMode(blas_, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));  // sums stay float
    // Memory of our own, so that cuBLAS allocates none while a graph is captured; so much is what it asks for on Hopper.
    const std::span<std::byte> room = memory(std::size_t{32} << 20);
    check(cublasSetWorkspace(blas_, room.data(), room.size()));
  }
  ~GpuBackend() override {
    cudaStreamSynchronize(stream_);
    if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
    once_.clear(), captured_.clear();
    cublasDestroy(blas_);
    for (void* data : device_) cudaFree(data);
    for (void* data : staging_) cudaFreeHost(data);
    cudaStreamDestroy(stream_);
  }

  std::string name() const override { return "the GPU, f16"; }
  api::On on() const override { return {.device = api::Device::gpu, .stream = stream_}; }
  fl::DType dtype() const override { return fl::DType::f16; }
  std::span<std::byte> memory(std::size_t bytes) override {
    void* data = nullptr;
    check(cudaMalloc(&data, std::max<std::size_t>(bytes, 16)));
    device_.push_back(data);
    check(cudaMemsetAsync(data, 0, bytes, stream_));
    return {static_cast<std::byte*>(data), bytes};
  }
  api::Workspace workspace(const api::WorkspaceBytes& bytes) override {
    void* staging = nullptr;
    if (bytes.staging > 0) {
      check(cudaMallocHost(&staging, bytes.staging));
      staging_.push_back(staging);
    }
    return {.device = memory(bytes.device), .staging = {static_cast<std::byte*>(staging), bytes.staging}};
  }
  void upload(std::span<std::byte> to, const void* from) override {  // from pageable memory: read before this returns
    check(cudaMemcpyAsync(to.data(), from, to.size(), cudaMemcpyHostToDevice, stream_));
  }
  std::vector<std::int32_t> download(std::span<const std::int32_t> from) override {
    std::vector<std::int32_t> values(from.size());
    check(cudaMemcpyAsync(values.data(), from.data(), from.size_bytes(), cudaMemcpyDeviceToHost, stream_));
    check(cudaStreamSynchronize(stream_));
    return values;
  }

  fl::ConstTensor matrix(const fl::ConstTensor& stored) override {
    return fl::contiguous(rounded(stored), fl::DType::f16, {stored.shape[0], stored.shape[1]});
  }
  fl::ConstTensor vector(const fl::ConstTensor& stored) override {
    return fl::contiguous(rounded(stored), fl::DType::f16, {stored.shape[0]});
  }

  // cuBLAS counts columns first: y^T [out, n] = w [out, in] x^T [in, n], where w lies as [in, out] and is transposed.
  void multiply(const fl::ConstTensor& x, const fl::ConstTensor& w, const fl::Tensor& y) override {
    const float one = 1, zero = 0;
    const auto in = static_cast<int>(w.shape[1]), out = static_cast<int>(w.shape[0]), n = static_cast<int>(x.shape[0]);
    check(cublasGemmEx(blas_, CUBLAS_OP_T, CUBLAS_OP_N, out, n, in, &one, w.data, CUDA_R_16F, in, x.data, CUDA_R_16F, in,
                       &zero, y.data, y.dtype == fl::DType::f32 ? CUDA_R_32F : CUDA_R_16F, out, CUBLAS_COMPUTE_32F,
                       CUBLAS_GEMM_DEFAULT));
  }
  void gather(const fl::ConstTensor& table, std::span<const std::int32_t> rows, const fl::Tensor& out) override {
    gpu_kernels::gather(table.data_as<const __half>(), rows.data(), out.data_as<__half>(), static_cast<int>(out.shape[0]),
                        static_cast<int>(out.shape[1]), stream_);
    check(cudaGetLastError());
  }
  void silu(const fl::ConstTensor& gate_up, const fl::Tensor& out) override {
    gpu_kernels::silu(gate_up.data_as<const __half>(), out.data_as<__half>(), static_cast<int>(out.shape[0]),
                      static_cast<int>(out.shape[1]), stream_);
    check(cudaGetLastError());
  }
  void argmax(const fl::ConstTensor& logits, std::span<std::int32_t> ids) override {
    gpu_kernels::argmax(logits.data_as<const float>(), ids.data(), static_cast<int>(logits.shape[0]),
                        static_cast<int>(logits.shape[1]), stream_);
    check(cudaGetLastError());
  }

  void step(Repeat repeat, const std::function<void()>& work) override {
    // Before anything is captured, one step runs as it is: then cuBLAS and the driver have loaded all that it needs.
    const bool loads = repeat == Repeat::same_launches && !std::exchange(loaded_, true);
    if (repeat == Repeat::no || loads) return launch(once_, false, work);
    if (graph_ == nullptr) {
      cudaGraph_t captured = nullptr;
      check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
      launch(captured_, true, work);
      check(cudaStreamEndCapture(stream_, &captured));
      check(cudaGraphInstantiate(&graph_, captured, 0));
      check(cudaGraphDestroy(captured));
    }
    marks_ = &captured_;
    check(cudaGraphLaunch(graph_, stream_));
  }
  void mark(Part part) override {
    if (measure_parts_) marks_->add(part, stream_, capturing_);
  }
  bool measures_parts() const override { return measure_parts_; }
  Milliseconds times() override { return marks_->times(); }

 private:
  void launch(Marks& marks, bool capturing, const std::function<void()>& work) {
    marks.clear();
    marks_ = &marks, capturing_ = capturing;
    mark(Part::host);  // the beginning
    work();
  }
  void* rounded(const fl::ConstTensor& stored) {
    std::vector<fl::Half> values(static_cast<std::size_t>(stored.size()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = fl::Half(stored.data_as<const float>()[i]);
    const std::span<std::byte> place = memory(values.size() * sizeof(fl::Half));
    upload(place, values.data());
    return place.data();
  }

  bool measure_parts_, capturing_ = false, loaded_ = false;
  cudaStream_t stream_ = nullptr;
  cublasHandle_t blas_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
  Marks once_, captured_;
  Marks* marks_ = &once_;
  std::vector<void*> device_, staging_;
};

}  // namespace

std::unique_ptr<Backend> make_gpu_backend(bool measure_parts) { return std::make_unique<GpuBackend>(measure_parts); }
