// 2^x in one instruction, where exp2f spends four on results that no f32 holds normally: those become 0 here. 2^-inf is 0,
// NaN stays. Off by at most 2^-22 of the result. (PTX ISA, "Floating Point Instructions: ex2.approx.ftz.f32".)
#pragma once

namespace flashladder::gpu {

__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace flashladder::gpu
