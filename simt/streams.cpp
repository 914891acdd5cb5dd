// CUDA's streams, events and graphs where everything happens at once: a capturing stream records, a graph does it again.
#include <chrono>
#include <mutex>
#include <utility>
#include <vector>

#include "simt/errors.hpp"
#include "simt/launch.hpp"

namespace simt = flashladder::simt;

using Steps = std::vector<std::function<void()>>;
struct CUgraph_st {
  Steps steps;
};
struct CUgraphExec_st {
  Steps steps;
};
struct CUstream_st {
  CUgraph_st* capture = nullptr;  // what is recorded
  unsigned long long capture_id = 0;
  bool spoiled = false;           // by what can't be captured
};
struct CUevent_st {
  std::chrono::steady_clock::time_point at;
};

namespace {

// The default stream by any of its names is no object.
bool is_object(cudaStream_t stream) { return reinterpret_cast<std::uintptr_t>(stream) > 2; }
bool captures(cudaStream_t stream) { return is_object(stream) && stream->capture != nullptr; }

std::recursive_mutex& device() {  // one thing at a time
  static auto& mutex = *new std::recursive_mutex;
  return mutex;
}

cudaError_t now(const std::function<void()>& what) {
  const std::lock_guard lock(device());
  try {
    what();
  } catch (const simt::KernelError& error) {
    simt::a_kernel_failed(error.what());
  }
  return cudaSuccess;  // whoever synchronises hears of it
}

thread_local cudaError_t last_error = cudaSuccess;
cudaError_t kernel_failed = cudaSuccess;
std::string why_failed;

}  // namespace

namespace flashladder::simt {

cudaError_t on_stream(cudaStream_t stream, std::function<void()> what) {
  if (!captures(stream)) return now(what);
  stream->capture->steps.push_back(std::move(what));
  return cudaSuccess;
}

cudaError_t said(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}
cudaError_t take_last_error() { return std::exchange(last_error, cudaSuccess); }
void a_kernel_failed(std::string why) { kernel_failed = cudaErrorLaunchFailure, why_failed = std::move(why); }
cudaError_t failure() { return said(std::exchange(kernel_failed, cudaSuccess)); }
const char* why_it_failed() { return why_failed.c_str(); }

}  // namespace flashladder::simt

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return *stream = new CUstream_st, cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return cudaStreamCreate(stream); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (captures(stream)) delete stream->capture;
  return delete stream, cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (captures(stream)) return stream->spoiled = true, simt::said(cudaErrorStreamCaptureUnsupported);
  return simt::failure();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  static unsigned long long captures_so_far = 0;
  if (!is_object(stream) || captures(stream)) return simt::said(cudaErrorStreamCaptureUnsupported);
  stream->capture = new CUgraph_st, stream->capture_id = ++captures_so_far, stream->spoiled = false;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!captures(stream)) return simt::said(cudaErrorInvalidValue);
  *graph = std::exchange(stream->capture, nullptr);
  if (!stream->spoiled) return cudaSuccess;
  delete std::exchange(*graph, nullptr);
  return simt::said(cudaErrorStreamCaptureInvalidated);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return cudaStreamGetCaptureInfo(stream, status);
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id) {
  *status = !captures(stream)   ? cudaStreamCaptureStatusNone
            : stream->spoiled ? cudaStreamCaptureStatusInvalidated
                              : cudaStreamCaptureStatusActive;
  if (id != nullptr && captures(stream)) *id = stream->capture_id;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  return *executable = new CUgraphExec_st{graph->steps}, cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const auto& step : executable->steps) {
    if (const cudaError_t error = simt::on_stream(stream, step); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) { return delete executable, cudaSuccess; }

cudaError_t cudaEventCreate(cudaEvent_t* event) { return *event = new CUevent_st, cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return cudaEventCreate(event); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return simt::on_stream(stream, [event] { event->at = std::chrono::steady_clock::now(); });
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end) {
  return *ms = std::chrono::duration<float, std::milli>(end->at - begin->at).count(), cudaSuccess;
}
