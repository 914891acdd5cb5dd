// gpu/ptx/named_barrier.cuh on a simulated GPU.
#pragma once

#include "simt/cluster.hpp"

namespace flashladder::gpu {

template <int threads>
inline void named_barrier_sync(int number) {
  simt::cluster->barrier(static_cast<unsigned>(number), threads, true);
}
template <int threads>
inline void named_barrier_arrive(int number) {
  simt::cluster->barrier(static_cast<unsigned>(number), threads, false);
}

}  // namespace flashladder::gpu
