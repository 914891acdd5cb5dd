// Barriers of the hardware, of which a CTA has 16; number 0 is __syncthreads(). A barrier lets those who sync pass when
// `threads` threads have come, whether they sync or only arrive; then it begins anew. PTX ISA, "Parallel Synchronization and
// Communication Instructions: bar".
#pragma once

namespace flashladder::gpu {

template <int threads>
__device__ inline void named_barrier_sync(int number) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "n"(threads) : "memory");
}
// Says that this warp has come, and goes on.
template <int threads>
__device__ inline void named_barrier_arrive(int number) {
  asm volatile("bar.arrive %0, %1;" ::"r"(number), "n"(threads) : "memory");
}

}  // namespace flashladder::gpu
