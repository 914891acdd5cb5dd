#include "bench/gemm.hpp"

#include <Eigen/Core>
#include <cmath>
#include <vector>

#include "bench/timing.hpp"
#include "core/error.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "reference/thread_pool.hpp"

namespace flashladder::bench {
namespace {

constexpr int side = 1024;
using Matrix = Eigen::MatrixXf;

Matrix drawn(std::uint64_t seed) {
  ladder::Random random(seed);
  return Matrix::NullaryExpr(side, side, [&] { return static_cast<float>(random.normal()); });
}

struct Product {
  Matrix a, b, c;

  explicit Product(std::uint64_t seed) : a(drawn(2 * seed)), b(drawn(2 * seed + 1)), c(side, side) {}

  // Its diagonal against double, within the roundings of a float sum of `side` products.
  bool right() const {
    for (int i = 0; i < side; ++i) {
      const Eigen::VectorXd products = a.row(i).transpose().cast<double>().cwiseProduct(b.col(i).cast<double>());
      if (!(std::abs(c(i, i) - products.sum()) <= side * 0x1p-24 * products.cwiseAbs().sum())) return false;
    }
    return true;
  }
};

}  // namespace

Measurement measure_gemm(int threads, int rounds) {
  std::vector<Product> products;
  for (int t = 0; t < threads; ++t) products.emplace_back(static_cast<std::uint64_t>(t));
  reference::ThreadPool pool(threads);
  const double ms = median_ms(rounds, [&] {
    pool.claim(threads, threads, [&](std::int32_t i, int) {
      Product& p = products[static_cast<std::size_t>(i)];
      p.c.noalias() = p.a * p.b;
    });
  });
  for (const Product& p : products) require(p.right(), "GEMM", "Eigen", "gave a product that is not the one of double");
  const double flops = 2.0 * side * side * side * threads;
  return {.family = "cpu", .work = "GEMM 1024^3 f32, one a thread", .backend = "Eigen", .us = ms * 1e3,
          .tera_flops = flops / ms * 1e-9, .threads = threads};
}

}  // namespace flashladder::bench
