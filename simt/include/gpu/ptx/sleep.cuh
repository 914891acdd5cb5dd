// gpu/ptx/sleep.cuh on a simulated GPU.
#pragma once

namespace flashladder::gpu {

inline void sleep_if_infinite(float) {}

}  // namespace flashladder::gpu
