// Time between two points of a stream, by CUDA events.
#pragma once

#include "gpu/check.hpp"

namespace flashladder::gpu {

class Stopwatch {
 public:
  Stopwatch() {
    check(cudaEventCreate(&begin_));
    check(cudaEventCreate(&end_));
  }
  ~Stopwatch() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  void start(cudaStream_t stream) { check(cudaEventRecord(begin_, stream)); }
  // Waits for the stream; what went wrong in a kernel since start() is thrown here.
  double stop_ms(cudaStream_t stream) {
    check(cudaEventRecord(end_, stream));
    check(cudaEventSynchronize(end_));
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin_, end_));
    return ms;
  }

 private:
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

}  // namespace flashladder::gpu
