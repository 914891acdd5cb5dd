// gpu/ptx/prefetch.cuh on a simulated GPU, which has no caches.
#pragma once

#include <cstdint>

namespace flashladder::gpu {

inline void prefetch_l2(const void*, std::uint32_t) {}

}  // namespace flashladder::gpu
