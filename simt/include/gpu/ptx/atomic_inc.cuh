// gpu/ptx/atomic_inc.cuh on a simulated GPU.
#pragma once

#include <cstdint>

namespace flashladder::gpu {

inline std::uint32_t atomic_inc_acq_rel(std::uint32_t* counter, std::int32_t last) {
  return atomicInc(counter, static_cast<unsigned>(last));
}

}  // namespace flashladder::gpu
