// The largest, and the sum, of what the lanes of a warp hold: the same bits in all of them, by a butterfly.
#pragma once

#include "gpu/warp.cuh"

namespace flashladder::gpu {

__device__ inline float warp_max(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(all_lanes, x, distance));
  return x;
}
// Each addition is rounded on its own, also where x is a product.
__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x = __fadd_rn(x, __shfl_xor_sync(all_lanes, x, distance));
  return x;
}

}  // namespace flashladder::gpu
