// The copy engine of sm_90 (TMA): one thread asks for a box of a tensor, the engine computes the addresses, copies it to
// shared memory, swizzled, and counts the bytes on a barrier. PTX ISA, "Data Movement and Conversion Instructions:
// cp.async.bulk.tensor". What lies outside of the tensor arrives as zeros, and counts.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "gpu/ptx/mbarrier.cuh"

namespace flashladder::gpu {

// How long the L2 cache should keep what is read: an encoded policy (PTX ISA, "createpolicy"; these two are all of a tensor
// evicted first, and last).
enum class L2Policy : std::uint64_t { evict_first = 0x12F0000000000000, evict_last = 0x14F0000000000000 };

// map: a kernel parameter (const __grid_constant__), or in global memory. at: the box's first element, innermost dimension
// first. to: shared memory, a multiple of 128 bytes, of 1024 where the map swizzles 128 bytes.
__device__ inline void copy_box(const CUtensorMap& map, void* to, Mbarrier& full, L2Policy policy,
                                const std::int32_t (&at)[4]) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, %3, %4, "
      "%5}], [%6], %7;" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(to))),
      "l"(&map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(full.address()), "l"(policy)
      : "memory");
}
__device__ inline void copy_box(const CUtensorMap& map, void* to, Mbarrier& full, L2Policy policy,
                                const std::int32_t (&at)[5]) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, %3, %4, "
      "%5, %6}], [%7], %8;" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(to))),
      "l"(&map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]), "r"(full.address()), "l"(policy)
      : "memory");
}

// The way back: asks for a box from shared memory to be stored. What lies outside of the tensor is not. Others' writes to
// `from` must have been followed by fence_proxy_async() and a barrier.
__device__ inline void store_box(const CUtensorMap& map, const void* from, const std::int32_t (&at)[4]) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%1, %2, %3, %4}], [%5];" ::"l"(&map), "r"(at[0]),
               "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(from)))
               : "memory");
}
// The boxes that this thread asked to store are one group, of which it can wait until the engine has read shared memory.
__device__ inline void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
__device__ inline void wait_for_reads_of_stores() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

// The map itself is fetched before it is needed.
__device__ inline void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// What this thread wrote to shared memory is seen by the copy engine and by wgmma, which read it past the ordinary path.
__device__ inline void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace flashladder::gpu
