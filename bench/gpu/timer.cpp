#include "bench/gpu/timer.hpp"

#include <algorithm>
#include <array>
#include <chrono>

#include "gpu/check.hpp"
#include "gpu/traffic.hpp"

namespace flashladder::bench {
namespace {

constexpr int block = 20, least = 40, most = 400;
constexpr std::chrono::milliseconds least_time{300};

cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

CapturedGraph::CapturedGraph(std::span<const Launch> calls, void* stream) : size_(calls.size()) {
  for (const Launch& call : calls) call(stream);  // a kernel's first launch may load it, which a capture refuses
  gpu::check(cudaStreamSynchronize(as_stream(stream)));
  cudaGraph_t graph = nullptr;
  gpu::check(cudaStreamBeginCapture(as_stream(stream), cudaStreamCaptureModeThreadLocal));
  for (const Launch& call : calls) call(stream);
  gpu::check(cudaStreamEndCapture(as_stream(stream), &graph));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&executable, graph, 0);
  gpu::check(cudaGraphDestroy(graph));
  gpu::check(made);
  executable_ = executable;
}

CapturedGraph::~CapturedGraph() { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_)); }

void CapturedGraph::replay(void* stream) const {
  gpu::check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), as_stream(stream)));
}

struct GpuTimer::Events {
  std::array<cudaEvent_t, block> begin{}, end{};

  Events() {
    for (cudaEvent_t& e : begin) gpu::check(cudaEventCreate(&e));
    for (cudaEvent_t& e : end) gpu::check(cudaEventCreate(&e));
  }
  ~Events() {
    for (cudaEvent_t e : begin) cudaEventDestroy(e);
    for (cudaEvent_t e : end) cudaEventDestroy(e);
  }
};

GpuTimer::GpuTimer() : events_(std::make_unique<Events>()), flush_(std::size_t{256} << 20), sink_(16) {
  cudaStream_t stream = nullptr;
  gpu::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  stream_ = stream;
  flush_.poison();
  gpu::check(cudaDeviceSynchronize());
}

GpuTimer::~GpuTimer() { cudaStreamDestroy(as_stream(stream_)); }

void GpuTimer::synchronise() const { gpu::check(cudaStreamSynchronize(as_stream(stream_))); }

void GpuTimer::flush() const { gpu::read_all(flush_.data(), flush_.size(), sink_.as<float>(), as_stream(stream_)); }

double GpuTimer::event_us(const Launch& call) const {
  call(stream_);
  synchronise();
  std::vector<float> times;
  const auto start = std::chrono::steady_clock::now();
  while (times.size() < most && (times.size() < least || std::chrono::steady_clock::now() - start < least_time)) {
    for (int i = 0; i < block; ++i) {
      flush();
      gpu::check(cudaEventRecord(events_->begin[i], as_stream(stream_)));
      call(stream_);
      gpu::check(cudaEventRecord(events_->end[i], as_stream(stream_)));
    }
    synchronise();
    for (int i = 0; i < block; ++i) {
      float ms = 0;
      gpu::check(cudaEventElapsedTime(&ms, events_->begin[i], events_->end[i]));
      times.push_back(ms);
    }
  }
  times.erase(times.begin(), times.begin() + block);  // the first block warmed up
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle * 1e3;
}

double GpuTimer::graph_us(const CapturedGraph& graph) const {
  return event_us([&](void* stream) { graph.replay(stream); }) / static_cast<double>(graph.size());
}

std::byte* GpuTimer::traffic(std::size_t bytes) const {
  if (traffic_.size() < bytes) {
    traffic_ = {};  // before the new one, which may not fit beside it
    traffic_ = gpu::DeviceBuffer(bytes);
    traffic_.poison();
  }
  return traffic_.data();
}

double GpuTimer::read_us(std::size_t bytes) const {
  const std::byte* data = traffic(bytes);
  return event_us([&](void* stream) { gpu::read_all(data, bytes / 16 * 16, sink_.as<float>(), as_stream(stream)); });
}

double GpuTimer::copy_us(std::size_t bytes) const {
  std::byte* data = traffic(bytes);
  return event_us([&](void* stream) {
    gpu::check(cudaMemcpyAsync(data + bytes / 2, data, bytes / 2, cudaMemcpyDeviceToDevice, as_stream(stream)));
  });
}

double GpuTimer::graph_read_us(std::size_t bytes, int places, int turns) const {
  const std::size_t each = bytes / 256 * 256;
  const std::byte* data = traffic(each * static_cast<std::size_t>(places));
  std::vector<Launch> reads;
  for (int i = 0; i < places * turns; ++i) {
    const std::byte* place = data + each * static_cast<std::size_t>(i % places);
    reads.push_back([=, this](void* stream) { gpu::read_all(place, each, sink_.as<float>(), as_stream(stream)); });
  }
  return graph_us(CapturedGraph(reads, stream_));
}

}  // namespace flashladder::bench
