// A load that stays where it stands. PTX ISA, "Data Movement and Conversion Instructions: ld".
#pragma once

#include <cstdint>

namespace flashladder::gpu {

// Volatile: ptxas does not compute addresses of what comes behind it first.
__device__ inline std::int32_t load_now(const std::int32_t* global) {
  std::int32_t value;
  asm volatile("ld.global.b32 %0, [%1];" : "=r"(value) : "l"(global));
  return value;
}

}  // namespace flashladder::gpu
