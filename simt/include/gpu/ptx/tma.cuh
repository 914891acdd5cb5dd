// gpu/ptx/tma.cuh on a simulated GPU.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "gpu/ptx/mbarrier.cuh"
#include "simt/boxes.hpp"

namespace flashladder::gpu {

enum class L2Policy : std::uint64_t { evict_first, evict_last };

template <std::size_t rank>
inline void copy_box(const CUtensorMap& map, void* to, Mbarrier& full, L2Policy, const std::int32_t (&at)[rank]) {
  simt::load_box(map, to, at, rank, [&full](std::uint32_t bytes) { full.copied(bytes); });
}
inline void store_box(const CUtensorMap& map, const void* from, const std::int32_t (&at)[4]) {
  simt::store_box(map, from, at, 4);
}
inline void commit_stores() {}
inline void wait_for_reads_of_stores() { simt::wait_for_stores(); }
inline void prefetch_map(const CUtensorMap&) {}
inline void fence_proxy_async() {}

}  // namespace flashladder::gpu
