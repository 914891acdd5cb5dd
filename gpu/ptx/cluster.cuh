// A cluster: CTAs that run at the same time on neighbouring SMs, meet at a barrier of their own and read each other's shared
// memory (sm_90). PTX ISA, "Special Registers: %cluster_ctarank", "Parallel Synchronization and Communication Instructions:
// barrier.cluster", "Data Movement and Conversion Instructions: mapa", and "State Spaces: shared".
#pragma once

#include <cstdint>

namespace flashladder::gpu {

// This CTA's number in its cluster, and how many CTAs the cluster has.
__device__ inline std::uint32_t cluster_rank() {
  std::uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline std::uint32_t cluster_size() {
  std::uint32_t size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}

// The barrier of all threads of all CTAs, in two steps: what a thread wrote to shared memory before it arrived is seen by
// whoever has waited. Every thread waits once for each arrival of its own.
__device__ inline void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ inline void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// Where something of this CTA's shared memory lies in that of CTA `rank`: an address for the loads below.
__device__ inline std::uint32_t in_cta(const void* own, int rank) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(own));
  std::uint32_t there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  return there;
}
__device__ inline float load_in_cluster(std::uint32_t address) {
  float value;
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
  return value;
}
__device__ inline float4 load4_in_cluster(std::uint32_t address) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address)
               : "memory");
  return v;
}

}  // namespace flashladder::gpu
