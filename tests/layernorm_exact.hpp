// LayerNorm in long double, what float arithmetic may lose of it, and rows on which a wrong formula is seen: for the tests of
// both devices.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/ops_data.hpp"

namespace ops_test {

// How many floats a thread of the GPU's adds one after the other: up to 32 elements, or every 1024th; then the tree over lanes
// and warps, and the product with 1 / d.
inline double chain_of(std::int64_t d) { return std::max(32.0, 8 * std::ceil(static_cast<double>(d) / 8192)) + 16; }

// Rows [n, d] as numbers, with gamma and beta, and what LayerNorm makes of them.
struct LayerNormRows {
  std::int64_t d;
  double eps;
  std::vector<double> x, gamma, beta;

  LayerNormRows(const Padded& input, const Padded& g, const Padded& b, float eps_) : d(g.size()), eps(eps_) {
    const auto all = [](const Padded& p) {
      std::vector<double> values;
      for (std::int64_t i = 0; i < p.size(); ++i) values.push_back(p.get(i));
      return values;
    };
    x = all(input), gamma = all(g), beta = all(b);
  }

  struct Moments {
    long double mean = 0, variance = 0;    // without eps
    double first = 0, away = 0, most = 0;  // x_0; mean and largest |x - x_0|
  };
  Moments moments(std::int64_t row) const {
    const double* r = x.data() + row * d;
    Moments m{.first = r[0]};
    for (std::int64_t i = 0; i < d; ++i) m.mean += static_cast<long double>(r[i]) / d;
    for (std::int64_t i = 0; i < d; ++i) {
      m.variance += (r[i] - m.mean) * (r[i] - m.mean) / d;
      m.away += std::abs(r[i] - m.first) / static_cast<double>(d);
      m.most = std::max(m.most, std::abs(r[i] - m.first));
    }
    return m;
  }

  // Of element i of a row with these moments: NaN where the row has no mean.
  double exact(const Moments& m, std::int64_t at) const {
    const auto i = static_cast<std::size_t>(at % d);
    const long double variance = m.variance + eps;
    if (!std::isfinite(variance)) return NAN;
    const long double scale = m.most == 0 ? 0 : 1 / std::sqrt(variance);  // equal elements: beta
    return static_cast<double>((x[static_cast<std::size_t>(at)] - m.mean) * scale * gamma[i] + beta[i]);
  }

  // What float loses before the one rounding, where up to `chain` floats are added one after the other (u = 2^-24):
  // x - x_0 is rounded, and so is that minus the mean; the mean of it is off by (chain + 4) u of the mean |x - x_0|. The
  // squares carry the roundings of the differences, twice, and a mean that is off counts squared; the root halves all of
  // them. rsqrtf is good to 2 ulp (CUDA Math API); products and the sum with beta round once each.
  double slack(const Moments& m, std::int64_t at, double chain) const {
    constexpr double u = 0x1p-24;
    const auto i = static_cast<std::size_t>(at % d);
    const double sigma = static_cast<double>(std::sqrt(m.variance + eps)), s = sigma == 0 ? 0 : 1 / sigma;
    const double off = (chain + 4) * m.away * u, from_first = std::abs(static_cast<double>(m.first - m.mean)) * s;
    const double e = std::abs(static_cast<double>(x[static_cast<std::size_t>(at)] - m.mean)), g = std::abs(gamma[i]);
    const double of_scale = 0.5 * (chain + 4 * (1 + from_first)) * u + 10 * u + 0.5 * off * off * s * s;
    const double difference = off + 2 * u * std::abs(x[static_cast<std::size_t>(at)] - m.first);
    return s * g * (difference + e * of_scale) + 2 * u * (e * s * g + std::abs(beta[i])) + 0x1p-149;
  }

  // One doctest check, because one for each element would take long.
  void check(DType dtype, const Padded& got, double chain) const {
    std::int64_t wrong = 0;
    std::string first;
    for (std::int64_t row = 0; row * d < got.size(); ++row) {
      const Moments m = moments(row);
      for (std::int64_t at = row * d; at < (row + 1) * d; ++at) {
        const double y = got.get(at), want = exact(m, at);
        if (std::isnan(want) ? std::isnan(y) : is_rounded_once(dtype, y, want, slack(m, at, chain))) continue;
        if (wrong++ > 0) continue;
        first = "row " + std::to_string(row) + " element " + std::to_string(at - row * d) + ": " + std::to_string(y) +
                ", exact " + std::to_string(want) + ", slack " + std::to_string(slack(m, at, chain));
      }
    }
    CHECK_MESSAGE(wrong == 0, first, ", wrong elements: ", wrong);
  }
};

// Rows on which shortcuts fail, in turn: ordinary ones; a mean far from zero; a lone outlier in front, and one inside; equal
// elements.
inline void fill_hard_rows(Padded& x, std::int64_t d, std::mt19937& random) {
  std::uniform_real_distribution<double> any(-1, 1);
  for (std::int64_t at = 0; at < x.size(); ++at) {
    const std::int64_t row = at / d, i = at % d;
    switch (row % 5) {
      case 0: x.set(at, any(random)); break;
      case 1: x.set(at, (x.t().dtype == DType::f32 ? 1e6 : 1000) + 8 * any(random)); break;
      case 2: x.set(at, i == 0 ? 700 : any(random)); break;
      case 3: x.set(at, i == d / 2 ? -300 : any(random)); break;
      default: x.set(at, 3.3 * static_cast<double>(row));
    }
  }
}

}  // namespace ops_test
