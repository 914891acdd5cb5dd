// The simulated GPU: what the environment says of it.
#pragma once

#include <cstddef>

#include "simt/cluster.hpp"

namespace flashladder::simt {

constexpr std::size_t most_shared_bytes = 227 * 1024;  // of a CTA (compute capability 9.0)

// FLASHLADDER_SIMULATED_SMS: how many it has; 32 unless said. A real one has 132, of which small cases use few.
int multiprocessors();

// FLASHLADDER_SIMULATED_ORDER: "early" (the default) or "late", and with "late:7", say, threads in an order drawn with seed 7.
Order order();

}  // namespace flashladder::simt
