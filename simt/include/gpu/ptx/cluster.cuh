// gpu/ptx/cluster.cuh on a simulated GPU.
#pragma once

#include <cstring>

#include "simt/memory.hpp"

namespace flashladder::gpu {

inline std::uint32_t cluster_rank() { return simt::current->cta->rank; }
inline std::uint32_t cluster_size() { return simt::cluster->launch().cluster; }
inline void cluster_arrive() { simt::cluster->cluster_arrive(); }
inline void cluster_wait() { simt::cluster->cluster_wait(); }

inline std::uint32_t in_cta(const void* own, int rank) {
  return simt::shared_address(own) % simt::Cluster::window + static_cast<std::uint32_t>(rank) * simt::Cluster::window;
}
inline float load_in_cluster(std::uint32_t address) {
  float value;
  std::memcpy(&value, simt::at_shared(address, sizeof value), sizeof value);
  return value;
}
inline float4 load4_in_cluster(std::uint32_t address) {
  float4 value;
  std::memcpy(&value, simt::at_shared(address, sizeof value), sizeof value);
  return value;
}

}  // namespace flashladder::gpu
