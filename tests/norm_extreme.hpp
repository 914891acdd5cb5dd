// Rows whose squares leave the range of float, and rows of zeros, infinities and NaN, for the norms of both devices: what
// they are made of, and what comes out, in long double.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/ops_data.hpp"

namespace ops_test {

struct ExtremeRow {
  std::string what;
  double size;             // of its elements, about
  float eps = 1e-6f;
  double special = 0;      // what one element is instead, if not 0
};

inline std::vector<ExtremeRow> extreme_rows(DType dtype) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  std::vector<ExtremeRow> rows{{"zeros", 0}, {"zeros, eps 0", 0, 0}, {"small", 6e-5, 0}, {"large", 30000},
                               {"infinity", 1, 1e-6f, inf}, {"-infinity", 1, 0, -inf}, {"NaN", 1, 1e-6f, NAN}};
  if (dtype == DType::f16) {
    rows.push_back({"subnormal", 3e-7, 0});
    return rows;
  }
  for (const double size : {1e20, 3e-20, 1e38, 1e-30}) {
    rows.push_back({"about " + std::to_string(std::log10(size)) + " digits", size});
    rows.push_back({"about " + std::to_string(std::log10(size)) + " digits, eps 0", size, 0});
  }
  rows.push_back({"subnormal", 3e-39, 0});
  rows.push_back({"the smallest", 0x1p-133, 0});
  rows.push_back({"1e-20 and eps about as much", 1e-20, 1e-40f});
  rows.push_back({"below its eps", 1e-30, 1e-38f});
  rows.push_back({"a half more overflows", 1.6e38});
  rows.push_back({"large and infinity", 1e25, 1e-6f, inf});
  rows.push_back({"small and NaN", 1e-30, 0, NAN});
  return rows;
}

// Three rows: of ordinary numbers, extreme ones, ordinary ones: what happens in the middle must stay there.
struct ExtremeRows {
  DType dtype;
  ExtremeRow row;
  std::int64_t d;
  Padded x, weight;

  ExtremeRows(DType t, const ExtremeRow& r, std::int64_t features, std::int64_t pad = 3)
      : dtype(t), row(r), d(features), x(t, {3, features}, pad), weight(t, {features}, pad) {
    std::mt19937 random(static_cast<unsigned>(features));
    x.fill(random, 0.5, 2);
    weight.fill(random, 0.5, 2);
    for (std::int64_t i = d; i < 2 * d; ++i) x.set(i, (i % 2 == 0 ? 1 : -1) * row.size * x.get(i - d));
    if (row.special != 0) x.set(d + d / 2, row.special);
  }

  // sums: what each element is normalised from. One doctest check, because one for each element would take long.
  void check(const Padded& sums, const Padded& got) const {
    std::int64_t wrong = 0;
    std::string first;
    for (int r = 0; r < 3; ++r) {
      long double squares = 0;
      for (std::int64_t i = r * d; i < (r + 1) * d; ++i) squares += static_cast<long double>(sums.get(i)) * sums.get(i);
      const long double mean = squares / d + row.eps;
      for (std::int64_t i = r * d; i < (r + 1) * d; ++i) {
        if (is_right(got.get(i), sums.get(i), mean, weight.get(i - r * d)) || wrong++ > 0) continue;
        first = "row " + std::to_string(r) + " element " + std::to_string(i - r * d) + ": " + std::to_string(got.get(i));
      }
    }
    CHECK_MESSAGE(wrong == 0, first);
  }

 private:
  bool is_right(double y, double x, long double mean, double w) const {
    if (std::isnan(mean) || std::isinf(x)) return std::isnan(y);
    if (mean == 0 || std::isinf(mean)) return y == 0;
    const double exact = static_cast<double>(x / std::sqrt(mean) * w);
    // As for ordinary rows, and what is lost where a float is subnormal.
    const double slack = (0.5 * static_cast<double>(d + 1) + 8) * 0x1p-24 * std::abs(exact) + 0x1p-149;
    return is_rounded_once(dtype, y, exact, slack);
  }
};

}  // namespace ops_test
