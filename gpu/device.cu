#include "gpu/device.hpp"

#include "gpu/check.hpp"

namespace flashladder::gpu {
namespace {

__global__ void probe() {}

std::string ask() {
  int devices = 0;
  const cudaError_t counted = cudaGetDeviceCount(&devices);
  if (counted != cudaSuccess) return std::string("no CUDA device: ") + cudaGetErrorString(counted);
  if (devices == 0) return "no CUDA device: the driver lists none";
  cudaFuncAttributes attributes;
  const cudaError_t loaded = cudaFuncGetAttributes(&attributes, probe);
  cudaGetLastError();  // what loaded said is reported below; it must not be found by a later, innocent check
  if (loaded != cudaSuccess) {
    return std::string("no CUDA device that this build has code for (-Dgpu_archs): ") + cudaGetErrorString(loaded);
  }
  return "";
}

}  // namespace

const std::string& why_no_device() {
  static const std::string reason = ask();
  return reason;
}

int multiprocessors() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

}  // namespace flashladder::gpu
