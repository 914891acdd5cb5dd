// A plan's tiles as a rung takes them, and how many of its CTAs an SM holds at once.
#pragma once

#include <cstdint>

namespace flashladder::gpu {

struct RungGrid {
  std::int32_t query_tile = 1;   // packed query rows at most
  std::int32_t ctas_per_sm = 1;
};

}  // namespace flashladder::gpu
