// A leak grows in every stretch of runs, without end. What only looks like one ends: malloc keeps freed chunks in a cache of
// each thread (tcache), which it counts as allocated, and a plug-in may fill tables of its own. So there are two conditions:
//   - memory grew in each stretch of runs, without exception;
//   - on the host it grew by more than all caches of this process's threads can hold. A cache has at most 16 chunks (7
//     before glibc 2.42) of each of 64 sizes from 32 to 1040 bytes, 549 kB in all; one MiB is allowed for each thread.
// Stretches double until both hold, or until one stretch did not grow. A small leak is found all the same, only later. While
// stretches are short, one without growth proves nothing: chunks that were freed before go into the cache by the handful, and
// what is then taken out of it was counted already. From 32 runs on a stretch takes more than a cache holds, and the count
// begins anew.
// Device memory is given out in granules of 2 MiB, so that a stretch without growth proves nothing while it is short; and
// nobody keeps what was freed. There the four stretches of the last length decide, and short lengths are passed over.
#include "ladder/plugin/leaks.hpp"

#include <malloc.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <vector>

#include "ladder/plugin/fenced.hpp"
#ifdef FLASHLADDER_CUDA
#include "gpu/check.hpp"
#include "gpu/device_buffer.hpp"
#include "gpu/device_problem.hpp"
#endif

namespace flashladder::ladder {
namespace {

constexpr std::int64_t warm_up_runs = 8, first_stretch = 4, stretches = 4, telling_host_stretch = 32,
                       longest_device_stretch = 4096;

std::int64_t threads_of_this_process() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return std::distance(begin(tasks), end(tasks));
}

// Bytes that malloc gave out, in its arenas and as mappings of their own. Sanitizers count nothing here: 0 in each call.
std::int64_t host_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<std::int64_t>(info.uordblks + info.hblkhd);
}

class Meter {
 public:
  Meter(const char* memory, std::function<std::int64_t()> bytes) : memory_(memory), bytes_(std::move(bytes)) {
    begin_anew();
  }
  void begin_anew() {
    first_ = last_ = bytes_();
    runs_ = 0;
    always_grew_ = true;
  }
  void begin_length() { grew_ = true; }
  void end_stretch(std::int64_t runs) {
    const std::int64_t now = bytes_();
    runs_ += runs;
    grew_ = grew_ && now > last_;
    always_grew_ = always_grew_ && now > last_;
    last_ = now;
  }
  bool grew() const { return grew_; }                // in each stretch of the last length
  bool always_grew() const { return always_grew_; }  // in each stretch since it began
  Leak leak() const { return {memory_, last_ - first_, runs_}; }

 private:
  const char* memory_;
  std::function<std::int64_t()> bytes_;
  std::int64_t first_ = 0, last_ = 0, runs_ = 0;
  bool grew_ = true, always_grew_ = true;
};

// device_bytes: none on the CPU.
std::optional<Leak> search(const std::function<void()>& run, const std::function<std::int64_t()>& device_bytes,
                           double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  const auto repeat = [&](std::int64_t times) {  // false: no time for more
    while (times-- > 0 && Clock::now() < end) run();
    return Clock::now() < end;
  };
  if (!repeat(warm_up_runs)) return std::nullopt;
  Meter host("host memory", host_bytes);
  std::optional<Meter> device;
  if (device_bytes) device.emplace("device memory", device_bytes);
  for (std::int64_t stretch = first_stretch;; stretch *= 2) {
    if (stretch == telling_host_stretch) host.begin_anew();
    if (device) device->begin_length();
    for (std::int64_t s = 0; s < stretches; ++s) {
      if (!repeat(stretch)) return std::nullopt;
      host.end_stretch(stretch);
      if (device) device->end_stretch(stretch);
    }
    constexpr std::int64_t cache_of_a_thread = 1 << 20;
    if (host.always_grew() && host.leak().bytes > threads_of_this_process() * cache_of_a_thread) return host.leak();
    if (device && device->grew()) return device->leak();
    const bool host_told = stretch >= telling_host_stretch && !host.always_grew();
    if (host_told && (!device || stretch >= longest_device_stretch)) return std::nullopt;
  }
}

std::optional<Leak> on_cpu(const Rung& rung, const Case& c, double seconds) {
  const AttentionParams& p = c.spec.params;
  const std::int64_t rows = c.q.shape[0];
  const std::size_t lse_size = static_cast<std::size_t>(rows * p.num_qo_heads);
  const FencedInputs inputs(c);
  const Fenced o(lse_size * p.head_dim_vo * sizeof(float)), lse(lse_size * sizeof(float));
  const Fenced workspace(rung.workspace_bytes(c.spec, {}));
  const AttentionOutput output{.o = contiguous(o.data(), DType::f32, {rows, p.num_qo_heads, p.head_dim_vo}),
                               .lse_log2 = {reinterpret_cast<float*>(lse.data()), lse_size}};
  const Buffers buffers{inputs.problem(), output, workspace.bytes()};
  return search([&] { rung.prepare(buffers, c.spec, {})(nullptr); }, {}, seconds);
}

#ifdef FLASHLADDER_CUDA
std::int64_t device_bytes() {
  std::size_t free = 0, total = 0;
  gpu::check(cudaMemGetInfo(&free, &total));
  return static_cast<std::int64_t>(total - free);
}

std::optional<Leak> on_gpu(const Rung& rung, const Case& c, double seconds) {
  const AttentionParams& p = c.spec.params;
  const std::int64_t rows = c.q.shape[0];
  const std::size_t lse_size = static_cast<std::size_t>(rows * p.num_qo_heads);
  const gpu::DeviceProblem problem(c.problem());
  const gpu::DeviceBuffer o(lse_size * p.head_dim_vo * sizeof(float)), lse(lse_size * sizeof(float));
  const gpu::DeviceBuffer workspace(rung.workspace_bytes(c.spec, {}));
  const AttentionOutput output{.o = contiguous(o.data(), DType::f32, {rows, p.num_qo_heads, p.head_dim_vo}),
                               .lse_log2 = {lse.as<float>(), lse_size}};
  const Buffers buffers{problem.view(), output, {workspace.data(), workspace.size()}};
  const auto run = [&] {
    const Runner runner = rung.prepare(buffers, c.spec, {});
    runner(nullptr);
    gpu::check(cudaStreamSynchronize(nullptr));  // its state is released next
  };
  return search(run, device_bytes, seconds);
}
#endif

}  // namespace

std::string Leak::text() const {
  const std::int64_t each = std::llround(static_cast<double>(bytes) / static_cast<double>(runs));
  return std::to_string(each) + " bytes of " + memory + " a run stay allocated after release(): " + std::to_string(bytes) +
         " bytes in " + std::to_string(runs) + " runs";
}

std::optional<Leak> find_leak(const Rung& rung, const Case& c, double seconds) {
#ifdef FLASHLADDER_CUDA
  if (rung.device == Device::gpu) return on_gpu(rung, c, seconds);
#endif
  return on_cpu(rung, c, seconds);
}

}  // namespace flashladder::ladder
