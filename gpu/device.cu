#include "gpu/device.hpp"

#include <array>
#include <atomic>
#include <cstddef>

#include "gpu/check.hpp"
#include "gpu/kernel_allowances.hpp"
#include "gpu/launch.hpp"

namespace flashladder::gpu {
namespace {

__global__ void device_probe_kernel() {}

std::string ask() {
  int devices = 0;
  const cudaError_t counted = cudaGetDeviceCount(&devices);
  int driver = 0;  // 0 where there is none, which the runtime reports as one that is too old
  if (counted == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
    return "no CUDA device: no CUDA driver here";
  }
  if (counted != cudaSuccess) return std::string("no CUDA device: ") + cudaGetErrorString(counted);
  if (devices == 0) return "no CUDA device: the driver lists none";
  cudaFuncAttributes attributes;
  const cudaError_t loaded = cudaFuncGetAttributes(&attributes, device_probe_kernel);
  cudaGetLastError();  // what loaded said is reported below; it must not be found by a later, innocent check
  if (loaded != cudaSuccess) {
    return std::string("no CUDA device that this build has code for (-Dgpu_archs): ") + cudaGetErrorString(loaded);
  }
  return "";
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device));
  return device;
}

// Of the current device; asked once for each, since launches want it. 0 is no answer of any attribute that is asked here.
template <cudaDeviceAttr which>
int attribute() {
  static std::array<std::atomic<int>, 64> known{};  // of the first devices
  const auto device = static_cast<std::size_t>(current_device());
  int value = device < known.size() ? known[device].load(std::memory_order_relaxed) : 0;
  if (value != 0) return value;
  check(cudaDeviceGetAttribute(&value, which, static_cast<int>(device)));
  if (device < known.size()) known[device].store(value, std::memory_order_relaxed);
  return value;
}

// Never destroyed: kernels may be launched while the program ends.
KernelAllowances& shared_memory() {
  static auto& allowances = *new KernelAllowances;
  return allowances;
}
KernelAllowances& large_clusters() {
  static auto& allowances = *new KernelAllowances;
  return allowances;
}

}  // namespace

void allow_shared_bytes(const void* kernel, std::size_t bytes, const std::source_location& where) {
  shared_memory().raise(kernel, current_device(), bytes, [&] {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), where);
  });
}
void allow_large_clusters(const void* kernel, const std::source_location& where) {
  large_clusters().raise(kernel, current_device(), 1, [&] {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), where);
  });
}

const std::string& why_no_device() {
  static const std::string reason = ask();
  return reason;
}

const std::string& why_no_hopper() {
  static const std::string reason = [] {
    if (!why_no_device().empty()) return why_no_device();
#ifndef FLASHLADDER_HOPPER
    return std::string("this build has no code for Hopper GPUs (-Dgpu_archs without 90)");
#endif
    const int major = attribute<cudaDevAttrComputeCapabilityMajor>(), minor = attribute<cudaDevAttrComputeCapabilityMinor>();
    if (major == 9 && minor == 0) return std::string();
    return "the kernel is for Hopper GPUs, compute capability 9.0; this one has " + std::to_string(major) + "." +
           std::to_string(minor);
  }();
  return reason;
}

int multiprocessors() { return attribute<cudaDevAttrMultiProcessorCount>(); }
bool has_programmatic_launch() { return attribute<cudaDevAttrComputeCapabilityMajor>() >= 9; }

}  // namespace flashladder::gpu
