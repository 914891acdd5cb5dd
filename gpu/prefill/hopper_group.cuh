// What the threads of a warp group say to each other, and to the compiler.
#pragma once

#include <cstdint>

#include "gpu/ptx/named_barrier.cuh"

namespace flashladder::gpu {

// The threads of a warp group meet, each group at a barrier of its own.
__device__ inline void sync_group(int group) { named_barrier_sync<128>(1 + group); }

// A wait that hardly ever happens: no instruction that touches memory or waits moves past it, so that what so_far was made
// of is computed before what comes next. (ptxas waits for products as early as it can, and would otherwise compute nothing
// while they are under way.)
__device__ inline void sleep_if_infinite(float so_far) {
  asm volatile("{\n.reg .pred inf;\nsetp.gt.f32 inf, %0, 0f7f7fffff;\n@inf nanosleep.u32 20;\n}" ::"f"(so_far) : "memory");
}

}  // namespace flashladder::gpu
