// What memory gives: a copy and a read by all threads, the ceilings of everything that reads a KV cache once.
#pragma once

#include <vector>

#include "bench/measurement.hpp"

namespace flashladder::bench {

// Two lines, "copy ..." (bytes read plus bytes written) and "read ...", over buffers that no cache holds.
std::vector<Measurement> measure_bandwidth(int threads, int rounds);

}  // namespace flashladder::bench
