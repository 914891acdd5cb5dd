// RoPE in long double, for the tests of the GPU: what a rotation by a position, or by given floats, comes to.
#pragma once

#include <cmath>
#include <optional>
#include <vector>

#include "tests/llama31_exact.hpp"
#include "tests/ops_data.hpp"

namespace ops_test {

struct RopeCase {
  int nnz = 1, q_heads = 1, k_heads = 1, dim = 128, rotary_dim = 128;
  bool interleave = false;
  std::int64_t pad = 8;
  float scale = 1, theta = 10000;
  std::optional<flashladder::Llama31Scaling> llama31 = {};
};

struct LongRotation {
  long double cos, sin;
};
// Its own error, position * 2^-64 turn or so, is nothing beside the slacks below.
inline LongRotation exact_rotation(std::int32_t position, int pair, const RopeCase& c) {
  const long double f = std::pow(static_cast<long double>(c.theta), -2.0L * pair / c.rotary_dim);
  const long double frequency = c.llama31 ? llama31_frequency<long double>(f, c.scale, *c.llama31) : f / c.scale;
  const long double angle = std::fmod(position * frequency, 2 * std::acos(-1.0L));
  return {std::cos(angle), std::sin(angle)};
}

// Float slack of a rotated feature, in units of the larger feature of its pair. Products and their sum: two fma-like steps
// of a value of at most 2, and a product. Cosine and sine from positions add their own errors, twice (x and y):
// gpu/rope/turns.hpp cuts off 2^-34 turn and rounds an angle of at most pi / 4 to float; sincospif is good to 1 ulp of 1
// (CUDA Math API).
inline double rotation_slack(bool computed) {
  const double trigonometry = computed ? 2 * 3.1416 * 0x1p-34 + 0.8 * 0x1p-24 + 2 * 0x1p-24 : 0;
  return 4 * 0x1p-24 + 2 * trigonometry;
}

// A row's rotation in double, and how large a pair's features are.
struct RotatedRow {
  std::vector<double> exact, scale;
};
template <class RotationOf>
RotatedRow rotated_row(const std::vector<double>& head, const RopeCase& c, RotationOf&& rotation_of) {
  RotatedRow row{head, std::vector<double>(head.size(), 0)};
  for (int p = 0; p < c.rotary_dim / 2; ++p) {
    const int a = c.interleave ? 2 * p : p, b = c.interleave ? 2 * p + 1 : p + c.rotary_dim / 2;
    const LongRotation r = rotation_of(p);
    row.exact[a] = static_cast<double>(head[a] * r.cos - head[b] * r.sin);
    row.exact[b] = static_cast<double>(head[b] * r.cos + head[a] * r.sin);
    row.scale[a] = row.scale[b] = std::max(std::abs(head[a]), std::abs(head[b]));
  }
  return row;
}

}  // namespace ops_test
