// The GPU's clock: events around one run, or around a graph of many; the L2 flushed before each. The policy of repeating is
// the peers' (bench/peers/): samples in blocks of 20 that are enqueued at once, the first block a warm-up, then 40 to 400 in
// at least 0.3 s, of which the median counts.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "gpu/device_buffer.hpp"

namespace flashladder::bench {

using Launch = std::function<void(void* stream)>;  // enqueues one run on the stream (a cudaStream_t), and nothing else

// Calls captured once, in order, to be replayed together.
class CapturedGraph {
 public:
  CapturedGraph(std::span<const Launch> calls, void* stream);
  ~CapturedGraph();
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;
  void replay(void* stream) const;
  std::size_t size() const { return size_; }

 private:
  void* executable_ = nullptr;  // cudaGraphExec_t
  std::size_t size_;
};

class GpuTimer {
 public:
  GpuTimer();
  ~GpuTimer();
  GpuTimer(const GpuTimer&) = delete;
  GpuTimer& operator=(const GpuTimer&) = delete;

  void* stream() const { return stream_; }
  void synchronise() const;  // what went wrong in a kernel is thrown here
  void flush() const;        // the L2, on the stream
  // Median microseconds of one call, L2 flushed before. A flush reads 256 MB: a memset would leave dirty lines, whose
  // write-back would be timed with the call (research/kernels.md: 8 us on an H200).
  double event_us(const Launch& call) const;
  // ... of one replay, divided by the graph's launches.
  double graph_us(const CapturedGraph& graph) const;

  // What memory gives: a read, or a copy (half of the bytes read, half written), of as many bytes; a read in a graph that
  // goes round `places` such stretches of memory `turns` times.
  double read_us(std::size_t bytes) const;
  double copy_us(std::size_t bytes) const;
  double graph_read_us(std::size_t bytes, int places, int turns) const;

 private:
  struct Events;
  std::byte* traffic(std::size_t bytes) const;

  void* stream_ = nullptr;
  std::unique_ptr<Events> events_;
  gpu::DeviceBuffer flush_, sink_;
  mutable gpu::DeviceBuffer traffic_;  // what is read and copied; grows
};

}  // namespace flashladder::bench
