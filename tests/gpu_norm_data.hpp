// What the tests of norms on the GPU share: shapes for every way that the kernels cut rows, and the slack of their arithmetic.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/gpu_ops_data.hpp"

namespace ops_test {

struct NormCase {
  std::int64_t n, heads, d;   // heads 0: [n, d]
  std::int64_t pad = 8;       // 8 keeps rows aligned to 16 bytes, 0 makes heads one flat array, 3 does neither
  bool in_place = false;
};

// The float arithmetic before the one rounding, relative: a thread adds up to 32 squares, or every 1024th element; then at
// most 10 steps of a tree, mean and eps (a sum of positive terms, halved by the root); rsqrtf is good to 2 ulp = 4 u
// (CUDA Math API); two products.
inline double norm_slack(std::int64_t d) {
  const double chain = std::max(32.0, 8 * std::ceil(static_cast<double>(d) / 8192)) + 12;
  return (0.5 * chain + 4 + 2) * u;
}

inline std::vector<std::int64_t> shape_of(const NormCase& c) {
  return c.heads == 0 ? std::vector{c.n, c.d} : std::vector{c.n, c.heads, c.d};
}

inline const NormCase norm_shapes[] = {
    {1, 0, 1}, {3, 0, 7, 3}, {5, 0, 8}, {4, 0, 64, 3}, {2, 0, 111, 1}, {9, 0, 500}, {1, 0, 128}, {67, 0, 128},
    {300, 0, 256}, {33, 0, 192}, {5, 0, 512}, {40, 0, 576}, {1, 0, 1024}, {7, 0, 1024}, {3, 0, 3072}, {19, 0, 3584},
    {1, 0, 4096}, {64, 0, 4096}, {256, 0, 4096}, {3, 0, 4096, 3}, {5, 0, 8192}, {2, 0, 16384}, {2, 0, 16392},
    {2, 0, 65536}, {1, 0, 20000, 5}, {0, 0, 128}, {0, 4, 64}, {7, 5, 128}, {7, 5, 128, 0}, {3, 16, 64}, {3, 0, 64, 0},
    {4, 3, 65, 2}, {2, 7, 512}, {3, 2, 4096}, {11, 4, 96, 0}};
// Many rows: blocks that take several short ones, last blocks that are cut off, long rows with more pieces a thread.
inline const NormCase big[] = {
    {40003, 0, 128}, {30001, 1, 64}, {5000, 9, 128}, {9001, 0, 256}, {4003, 0, 512}, {3001, 0, 1000}, {3301, 0, 2048},
    {1707, 0, 4096}, {901, 0, 8192}, {601, 0, 16384}, {1301, 0, 1032, 8}, {701, 0, 5120}, {301, 3, 1096, 8}, {61, 0, 16376}};

}  // namespace ops_test
