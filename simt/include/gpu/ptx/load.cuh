// gpu/ptx/load.cuh on a simulated GPU.
#pragma once

#include <cstdint>

namespace flashladder::gpu {

inline std::int32_t load_now(const std::int32_t* global) { return *global; }

}  // namespace flashladder::gpu
