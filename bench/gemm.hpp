// What arithmetic gives on the CPU: matrix products by Eigen, the ceiling of everything that multiplies more than it reads.
#pragma once

#include "bench/measurement.hpp"

namespace flashladder::bench {

// One line, "GEMM ...": every thread multiplies matrices of its own, all at the same time; its rate is that of all of them.
// Throws InputError if a product is wrong.
Measurement measure_gemm(int threads, int rounds);

}  // namespace flashladder::bench
