// gpu/ptx/cp_async_arrive.cuh on a simulated GPU.
#pragma once

#include "gpu/ptx/mbarrier.cuh"
#include "simt/copies.hpp"

namespace flashladder::gpu {

inline void cp_async_arrive(Mbarrier& full) {
  simt::after_copies([&full] { full.arrive(); });
}

}  // namespace flashladder::gpu
