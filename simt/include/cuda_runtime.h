// What CUDA's compiler adds to C++, as far as FlashLadder's kernels use it, on a simulated GPU.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "simt/include/cuda_runtime_api.h"
#include "simt/launch.hpp"
#include "simt/memory.hpp"
#include "simt/warp.hpp"

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static  // one for all CTAs, which run one after another
#define __forceinline__ inline

using flashladder::simt::blockDim, flashladder::simt::blockIdx, flashladder::simt::gridDim, flashladder::simt::threadIdx;

inline void __syncthreads() { flashladder::simt::cluster->barrier(0, 0, true); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { flashladder::simt::sync_warp(mask); }

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  const unsigned lane = flashladder::simt::current->lane, segment = static_cast<unsigned>(width);
  return flashladder::simt::shuffle(mask, "__shfl_sync", value,
                                    lane / segment * segment + static_cast<unsigned>(from) % segment);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance, int = 32) {
  return flashladder::simt::shuffle(mask, "__shfl_xor_sync", value,
                                    flashladder::simt::current->lane ^ static_cast<unsigned>(distance));
}
inline unsigned __ballot_sync(unsigned mask, bool mine) { return flashladder::simt::ballot(mask, "__ballot_sync", mine); }
inline bool __any_sync(unsigned mask, bool mine) { return flashladder::simt::ballot(mask, "__any_sync", mine) != 0; }
inline bool __all_sync(unsigned mask, bool mine) { return flashladder::simt::ballot(mask, "__all_sync", !mine) == 0; }

inline unsigned atomicInc(unsigned* at, unsigned last) {
  const unsigned before = *at;
  *at = before >= last ? 0 : before + 1;
  return before;
}
inline void __nanosleep(unsigned) {}
inline std::size_t __cvta_generic_to_shared(const void* p) { return flashladder::simt::shared_address(p); }

template <class T>
T __ldg(const T* at) {
  return *at;
}
template <class T>
T __ldcg(const T* at) {
  return *at;
}

inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
  return static_cast<unsigned>((std::uint64_t{high} << 32 | low) >> (by % 32));
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const std::uint64_t bytes = std::uint64_t{y} << 32 | x;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i) result |= static_cast<unsigned>(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
  return result;
}
template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  return b < a ? b : a;
}
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  return a < b ? b : a;
}

// Launches
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  struct cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};
enum cudaLaunchAttributeID {
  cudaLaunchAttributeClusterDimension = 4,
  cudaLaunchAttributeProgrammaticStreamSerialization = 6,
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int programmaticStreamSerializationAllowed;
    struct {
      unsigned x, y, z;
    } clusterDim;
  } val;
};
template <class... Params, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...), Arguments&&... arguments) {
  flashladder::simt::LaunchOf launch{.grid = {config->gridDim.x, config->gridDim.y, config->gridDim.z},
                                     .block = {config->blockDim.x, config->blockDim.y, config->blockDim.z},
                                     .shared_bytes = config->dynamicSmemBytes};
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    if (config->attrs[i].id == cudaLaunchAttributeClusterDimension) launch.cluster = config->attrs[i].val.clusterDim.x;
  }
  if (!flashladder::simt::allowed(reinterpret_cast<const void*>(kernel), launch.shared_bytes)) return cudaErrorInvalidValue;
  launch.kernel = [kernel, ... arguments = std::decay_t<Params>(arguments)] { kernel(arguments...); };
  return flashladder::simt::launch_on(config->stream, std::move(launch));
}

struct cudaFuncAttributes {
  int numRegs;
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributeNonPortableClusterSizeAllowed = 13,
};
template <class Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel) {
  return *attributes = {}, cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute which, int value) {
  if (which == cudaFuncAttributeMaxDynamicSharedMemorySize) flashladder::simt::allow(kernel, static_cast<std::size_t>(value));
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, Kernel, const cudaLaunchConfig_t* config) {
  const unsigned of = config->numAttrs;
  return flashladder::simt::resident_clusters(clusters, of == 0 ? 1 : config->attrs[of - 1].val.clusterDim.x);
}
