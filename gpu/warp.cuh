// What every warp-wide instruction names, and which thread this is.
#pragma once

#include "gpu/ptx/special_registers.cuh"

namespace flashladder::gpu {

inline constexpr unsigned all_lanes = 0xffffffffu;

// threadIdx.x, read anew: what is derived from it is not kept in registers through all that comes before.
__device__ inline int thread_again() { return read_tid_x(); }

}  // namespace flashladder::gpu
