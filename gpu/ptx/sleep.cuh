// A wait for the compiler's sake. PTX ISA, "Miscellaneous Instructions: nanosleep".
#pragma once

namespace flashladder::gpu {

// A wait that hardly ever happens: no instruction that touches memory or waits moves past it, so that what so_far was made
// of is computed before what comes next. (ptxas waits for products as early as it can, and would otherwise compute nothing
// while they are under way.)
__device__ inline void sleep_if_infinite(float so_far) {
  asm volatile("{\n.reg .pred inf;\nsetp.gt.f32 inf, %0, 0f7f7fffff;\n@inf nanosleep.u32 20;\n}" ::"f"(so_far) : "memory");
}

}  // namespace flashladder::gpu
