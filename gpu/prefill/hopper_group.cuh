// What the threads of a warp group say to each other, and to the compiler.
#pragma once

#include <cstdint>

#include "gpu/ptx/named_barrier.cuh"

namespace flashladder::gpu {

// The threads of a warp group meet, each group at a barrier of its own.
__device__ inline void sync_group(int group) { named_barrier_sync<128>(1 + group); }

// A store that hardly ever happens, and does no harm: no instruction moves from before it to behind it or back, so that what
// so_far was made of is computed before what comes next. (ptxas waits for products as early as it can, and would otherwise
// compute nothing while they are under way.)
__device__ inline void store_if_infinite(std::uint32_t shared_address, float so_far) {
  asm volatile("{\n.reg .pred inf;\nsetp.gt.f32 inf, %0, 0f7f7fffff;\n@inf st.shared.u32 [%1], 0;\n}" ::"f"(so_far),
               "r"(shared_address)
               : "memory");
}

}  // namespace flashladder::gpu
