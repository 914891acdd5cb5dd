// gpu/ptx/special_registers.cuh on a simulated GPU.
#pragma once

#include <chrono>
#include <cstdint>

#include "simt/cluster.hpp"

namespace flashladder::gpu {

inline int read_tid_x() { return static_cast<int>(simt::current->index.x); }
inline std::uint64_t read_globaltimer() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
}

}  // namespace flashladder::gpu
