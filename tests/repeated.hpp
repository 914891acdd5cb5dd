// A prepared GPU rung that runs again and again: does it give the same bits? Between runs everything that a run writes is NaN
// again, and so is every SM's shared memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <future>
#include <vector>

#include "gpu/check.hpp"
#include "gpu/poison.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/gpu_run.hpp"
#include "tests/options.hpp"

namespace flashladder::test {

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline bool same_bits(const ladder::RunResult& a, const ladder::RunResult& b) {
  return a.guards_intact && b.guards_intact && same_bits(a.o, b.o) && same_bits(a.lse_log2, b.lse_log2);
}

// A case on the GPU, a rung prepared for it, and what its first run gave.
struct Repeated {
  ladder::Case c;
  ladder::DeviceCase on_device;
  ladder::GpuRun run;
  ladder::RunResult first;

  Repeated(const ladder::Rung& rung, const ladder::CaseSpec& spec, const ladder::Settings& settings)
      : c(draw_case(spec)), on_device(c, rung.op), run(rung, c, on_device, settings), first(again(nullptr, 1)) {}

  // Enqueues it so many times, one behind the other, and waits.
  ladder::RunResult again(cudaStream_t stream, int times) {
    run.poison();
    for (int i = 0; i < times; ++i) run.enqueue(stream);
    gpu::check(cudaStreamSynchronize(stream));
    return run.result();
  }
  // How many of so many runs differ from the first, `at_once` of which are enqueued at a time.
  int differing(int runs, cudaStream_t stream = nullptr, int at_once = 1) {
    int differing = 0;
    for (int i = 0; i < runs; ++i) differing += !same_bits(first, again(stream, at_once));
    return differing;
  }
  // Does it give the same where every word of shared memory was this before?
  bool same_behind(std::uint32_t word) {
    run.poison();
    gpu::poison_shared_memory(nullptr, word);
    run.enqueue(nullptr);
    gpu::check(cudaStreamSynchronize(nullptr));
    return same_bits(first, run.result());
  }
};

class Stream {
 public:
  Stream() { gpu::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// How many of so many runs, four enqueued at a time, differ of each of two, which run at once on streams of their own.
struct Beside {
  int first, second;
};
inline Beside differing_beside(Repeated& a, Repeated& b, int runs) {
  const auto on_a_stream = [runs](Repeated& repeated) {
    const Stream stream;
    return repeated.differing(runs, stream, 4);
  };
  auto beside = std::async(std::launch::async, [&] { return on_a_stream(b); });
  const int first = on_a_stream(a);
  return {first, beside.get()};
}

// Few --cases, as under a sanitizer, ask for fewer: half as many.
inline int times_or(int usual) { return options().cases > 0 ? std::min(1 + options().cases / 2, usual) : usual; }

}  // namespace flashladder::test
