// cp.async (sm_80 and newer): 16 bytes from global to shared memory without passing through registers, completing later.
// PTX ISA, "Data Movement and Conversion Instructions: Non-bulk copy". A thread's copies form groups that finish in order;
// wait makes the thread's *own* copies visible to itself. What other threads copied needs a barrier on top.
#pragma once

#include <cstdint>

namespace flashladder::gpu {

// shared, global: 16-byte aligned. full = false reads nothing and writes zeros.
__device__ inline void cp_async_16(void* shared, const void* global, bool full) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(full ? 16 : 0)
               : "memory");
}

__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `pending` of this thread's groups are still under way.
template <int pending>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

}  // namespace flashladder::gpu
