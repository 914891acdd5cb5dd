// What the programs share, and any program has in some form: memory where attention runs, a clock, numbers to compute
// on, and options.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <flashladder/flashladder.hpp>
#ifdef WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace fl = flashladder;
namespace api = flashladder::api;

inline const bool on_gpu = api::best_device() == api::Device::gpu;

#ifdef WITH_CUDA
inline void check(cudaError_t code) {
  if (code == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(code));
  std::exit(2);
}
#endif

// n elements where attention runs; on the CPU that is the memory of `host` itself.
template <class T>
class Array {
 public:
  std::vector<T> host;

  explicit Array(std::vector<T> values) : host(std::move(values)) {
#ifdef WITH_CUDA
    if (!on_gpu) return;
    check(cudaMalloc(&device_, std::max<std::size_t>(bytes(), 16)));
    upload();
#endif
  }
  Array(Array&& other) noexcept : host(std::move(other.host)), device_(std::exchange(other.device_, nullptr)) {}
  ~Array() {
#ifdef WITH_CUDA
    cudaFree(device_);
#endif
  }
  T* data() { return on_gpu ? static_cast<T*>(device_) : host.data(); }
  std::size_t bytes() const { return host.size() * sizeof(T); }
  void upload() {
#ifdef WITH_CUDA
    if (on_gpu) check(cudaMemcpy(device_, host.data(), bytes(), cudaMemcpyHostToDevice));
#endif
  }
  void download() {
#ifdef WITH_CUDA
    if (on_gpu) check(cudaMemcpy(host.data(), device_, bytes(), cudaMemcpyDeviceToHost));
#endif
  }

 private:
  void* device_ = nullptr;
};

// Normal numbers. Only so many are drawn, then they repeat: drawing a cache of gigabytes would take longer than anything
// else here. The count is a prime, so that rows which begin at the same number lie far apart.
inline Array<fl::Half> drawn(std::size_t n, unsigned seed) {
  constexpr std::size_t prime = 65537;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<fl::Half> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = i < prime ? fl::Half(normal(random)) : values[i - prime];
  return Array<fl::Half>(std::move(values));
}
inline fl::Tensor tensor(Array<fl::Half>& a, std::initializer_list<std::int64_t> shape) {
  return fl::contiguous(a.data(), fl::DType::f16, shape);
}

// A workspace of that size: device memory, and page-locked memory for the plan's way to it.
class Memory {
 public:
  explicit Memory(const api::WorkspaceBytes& bytes) : device_(std::vector<std::byte>(bytes.device + 16)) {
    workspace_.device = {device_.data(), device_.host.size()};
#ifdef WITH_CUDA
    if (bytes.staging == 0) return;
    check(cudaMallocHost(&staging_, bytes.staging));
    workspace_.staging = {static_cast<std::byte*>(staging_), bytes.staging};
#endif
  }
  ~Memory() {
#ifdef WITH_CUDA
    cudaFreeHost(staging_);
#endif
  }
  const api::Workspace& workspace() const { return workspace_; }

 private:
  Array<std::byte> device_;
  void* staging_ = nullptr;
  api::Workspace workspace_{};
};

inline void wait() {
#ifdef WITH_CUDA
  if (on_gpu) check(cudaDeviceSynchronize());
#endif
}

// Of one call, in milliseconds. wall: from the call to the end of the work. processor: on the CPU, the time of processors
// that this program's threads took, whatever else the machine is doing; on the GPU it is wall.
enum class Clock : std::uint8_t { wall, processor };
template <class Call>
double milliseconds(Call&& call, Clock clock = Clock::wall) {
  wait();
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t ticks = std::clock();
  call();
  wait();
  if (clock == Clock::processor && !on_gpu) return 1e3 * static_cast<double>(std::clock() - ticks) / CLOCKS_PER_SEC;
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// One run's share, when many follow each other as layers do, of several calls, call(which, i): each the median of some such
// rows, after one to warm up. They take turns, so that a machine which slows down slows all of them.
template <class Call>
std::vector<double> milliseconds_in_turn(std::size_t calls, Call&& call, Clock clock = Clock::wall,
                                         int rows = on_gpu ? 11 : 3) {
  const int runs = on_gpu ? 20 : 1;
  std::vector<std::vector<double>> times(calls);
  for (int row = 0; row <= rows; ++row) {
    for (std::size_t which = 0; which < calls; ++which) {
      const auto one_row = [&] {
        for (int i = 0; i < runs; ++i) call(which, i);
      };
      const double all = milliseconds(one_row, clock);
      if (row > 0) times[which].push_back(all / runs);
    }
  }
  std::vector<double> medians;
  for (std::vector<double>& t : times) {
    std::ranges::sort(t);
    medians.push_back(t[t.size() / 2]);
  }
  return medians;
}
template <class Call>
double milliseconds_each(Call&& call) {
  return milliseconds_in_turn(1, [&](std::size_t, int i) { call(i); }).front();
}

inline void say_where() {
  if (on_gpu) std::printf("On the GPU\n");
  else std::printf("On the CPU, with a smaller default shape: %s\n", api::why_no_gpu().c_str());
}

// --name value, or --name alone; whatever is not in `defaults` is refused. --help prints them and ends the program.
inline std::map<std::string, std::string> options(int argc, char** argv, std::map<std::string, std::string> defaults) {
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--help" || std::string(argv[i]) == "-h") {
      std::printf("Usage: %s [options]\n", argv[0]);
      for (const auto& [name, value] : defaults) {
        const bool alone = value == "no";
        std::printf("  %s%s\n", name.c_str(), alone ? "" : (" VALUE, without it " + value).c_str());
      }
      std::exit(0);
    }
    const auto found = defaults.find(argv[i]);
    const bool alone = found != defaults.end() && (found->second == "no" || found->second == "yes");
    if (found == defaults.end() || (!alone && i + 1 == argc)) {
      std::fprintf(stderr, "%s: not an option, or without a value. There are%s", argv[i], defaults.empty() ? " none" : ":");
      for (const auto& [name, value] : defaults) std::fprintf(stderr, " %s (%s)", name.c_str(), value.c_str());
      std::fprintf(stderr, "\n");
      std::exit(2);
    }
    found->second = alone ? "yes" : argv[++i];
  }
  return defaults;
}
inline int number(const std::string& text) {
  char* end = nullptr;
  const long n = std::strtol(text.c_str(), &end, 10);
  if (*end == '\0' && !text.empty() && n >= 1 && n <= 1 << 24) return static_cast<int>(n);
  std::fprintf(stderr, "%s: must be a number, 1 .. 2^24\n", text.c_str());
  std::exit(2);
}
