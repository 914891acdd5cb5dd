// Registers move from the warps that copy to the warps that compute (sm_90a). PTX ISA, "setmaxnreg". All warps of a warp
// group execute it; the sum over the CTA stays within what it was launched with.
#pragma once

namespace flashladder::gpu {

template <int registers>
__device__ inline void give_registers_back() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

}  // namespace flashladder::gpu
