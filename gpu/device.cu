#include "gpu/device.hpp"

#include "gpu/check.hpp"

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

int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

}  // namespace

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
    const int major = attribute(cudaDevAttrComputeCapabilityMajor), minor = attribute(cudaDevAttrComputeCapabilityMinor);
    if (major == 9 && minor == 0) return std::string();
    return "the kernel is for Hopper GPUs, compute capability 9.0; this one has " + std::to_string(major) + "." +
           std::to_string(minor);
  }();
  return reason;
}

int multiprocessors() { return attribute(cudaDevAttrMultiProcessorCount); }
bool has_programmatic_launch() { return attribute(cudaDevAttrComputeCapabilityMajor) >= 9; }

}  // namespace flashladder::gpu
