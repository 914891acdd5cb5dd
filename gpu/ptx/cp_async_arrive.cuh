// Copies of cp_async.cuh that count at an mbarrier when they are there (sm_90 here; the instruction is sm_80's). PTX ISA, "Data
// Movement and Conversion Instructions: cp.async.mbarrier.arrive".
#pragma once

#include "gpu/ptx/mbarrier.cuh"

namespace flashladder::gpu {

// This thread arrives when all its copies so far have come: one of the arrivals that the barrier counts. Who waits sees what
// they wrote; wgmma does after fence_proxy_async() by whoever has waited.
__device__ inline void cp_async_arrive(Mbarrier& full) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(full.address()) : "memory");
}

}  // namespace flashladder::gpu
