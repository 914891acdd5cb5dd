// Gemma's norms and LayerNorm on the CPU: against long double, with the rounding checked; what wrong formulas would give is
// seen.
#include "reference/layernorm.hpp"
#include "reference/norm.hpp"
#include "tests/layernorm_exact.hpp"
#include "tests/norm_extreme.hpp"
#include "tests/ops_data.hpp"

using namespace flashladder;
using namespace ops_test;

namespace {

// In float, as its name says, from mean(x^2) - mean(x)^2: what LayerNorm must not be.
double one_pass_variance(const Padded& x, std::int64_t row, std::int64_t d) {
  float sum = 0, squares = 0;
  for (std::int64_t i = 0; i < d; ++i) {
    const auto value = static_cast<float>(x.get(row * d + i));
    sum += value;
    squares += value * value;
  }
  const float mean = sum / static_cast<float>(d);
  return std::max(squares / static_cast<float>(d) - mean * mean, 0.0f);
}

}  // namespace

TEST_CASE("gemma_rmsnorm: the weight counts from one and 1 + weight is not rounded") {
  for (const DType dtype : all_dtypes) {
    CAPTURE(name_of(dtype));
    constexpr std::int64_t n = 3, d = 96;
    std::mt19937 random(31);
    Padded x(dtype, {n, d}), weight(dtype, {d}), y(dtype, {n, d});
    x.fill(random, -3, 3);
    weight.fill(random, -0.02, 0.02);  // 1 + weight has more digits than the dtype
    reference::gemma_rmsnorm(x.t(), weight.t(), y.t(), 1e-5f);
    int plain_differs = 0, rounding_first_differs = 0;
    for (int row = 0; row < n; ++row) {
      long double squares = 0;
      for (int i = 0; i < d; ++i) squares += static_cast<long double>(x.get(row * d + i)) * x.get(row * d + i);
      const double rms = static_cast<double>(std::sqrt(squares / d + static_cast<double>(1e-5f)));
      for (int i = 0; i < d; ++i) {
        const double unit = x.get(row * d + i) / rms, w = weight.get(i), exact = unit * (1 + w);
        const double slack = 3 * 0x1p-24 * std::abs(exact);
        CHECK(is_rounded_once(dtype, y.get(row * d + i), exact, slack));
        plain_differs += !is_rounded_once(dtype, rounded(dtype, unit * w), exact, slack);
        const double first = rounded(dtype, unit * rounded(dtype, 1 + w));
        rounding_first_differs += !is_rounded_once(dtype, first, exact, slack);
      }
    }
    CHECK(plain_differs == n * d);
    CHECK((rounding_first_differs > 20) == (dtype != DType::f32));
    CHECK(y.padding_untouched());
  }
}

TEST_CASE("gemma norms: with a weight that 1 is added to exactly they are the plain norms in every bit") {
  for (const DType dtype : all_dtypes) {
    constexpr std::int64_t n = 4, d = 33;
    std::mt19937 random(32);
    Padded x(dtype, {n, d}), weight(dtype, {d}), one_more(dtype, {d}), gemma(dtype, {n, d}), plain(dtype, {n, d});
    x.fill(random, -3, 3);
    for (int i = 0; i < d; ++i) weight.set(i, (i - 16) / 32.0), one_more.set(i, 1 + (i - 16) / 32.0);
    reference::gemma_rmsnorm(x.t(), weight.t(), gemma.t());
    reference::rmsnorm(x.t(), one_more.t(), plain.t());
    CHECK(gemma.bytes() == plain.bytes());
    Padded x2(dtype, {n, d}), residual(dtype, {n, d}), residual2(dtype, {n, d});
    x2.copy(x);
    residual.fill(random, -1, 1), residual2.copy(residual);
    reference::gemma_fused_add_rmsnorm(x.t(), residual.t(), weight.t(), 1e-5f);
    reference::fused_add_rmsnorm(x2.t(), residual2.t(), one_more.t(), 1e-5f);
    CHECK((x.bytes() == x2.bytes() && residual.bytes() == residual2.bytes()));
  }
}

TEST_CASE("rmsnorm: a weight of -0 keeps its sign, as it did before there was 1 + weight") {
  Padded x(DType::f32, {1, 4}), weight(DType::f32, {4}), y(DType::f32, {1, 4});
  for (int i = 0; i < 4; ++i) x.set(i, 1), weight.set(i, i % 2 == 0 ? -0.0 : 0.0);
  reference::rmsnorm(x.t(), weight.t(), y.t());
  for (int i = 0; i < 4; ++i) CHECK(std::signbit(y.get(i)) == (i % 2 == 0));
}

TEST_CASE("layernorm: equals long double rounded once, also where one pass over the row would have no digits left") {
  for (const DType dtype : all_dtypes) {
    for (const DType weights : {dtype, DType::f32}) {
      for (const std::int64_t d : {1, 7, 64, 111, 576}) {
        INFO(name_of(dtype), " weights ", name_of(weights), " d ", d);
        std::mt19937 random(static_cast<unsigned>(d));
        Padded x(dtype, {10, d}), gamma(weights, {d}), beta(weights, {d}), y(dtype, {10, d}, 8);
        fill_hard_rows(x, d, random);
        gamma.fill(random, -2, 2), beta.fill(random, -1, 1);
        reference::layernorm(x.t(), gamma.t(), beta.t(), y.t(), 1e-5f);
        const LayerNormRows rows(x, gamma, beta, 1e-5f);
        rows.check(dtype, y, 0);
        CHECK(y.padding_untouched());
        for (int i = 0; i < d; ++i) CHECK(y.get(4 * d + i) == rounded(dtype, beta.get(i)));  // equal elements
        if (d < 64 || weights == dtype) continue;
        // What must be seen: one pass, d - 1 in d's place, the mean of a row whose sum is rounded to the dtype.
        const LayerNormRows::Moments m = rows.moments(1);
        int one_pass = 0, unbiased = 0, rounded_mean = 0;
        for (std::int64_t at = d; at < 2 * d; ++at) {
          const auto differs = [&](const LayerNormRows::Moments& wrong) {
            return !is_rounded_once(dtype, rounded(dtype, rows.exact(wrong, at)), rows.exact(m, at), rows.slack(m, at, 64));
          };
          LayerNormRows::Moments wrong = m;
          wrong.variance = one_pass_variance(x, 1, d);
          one_pass += differs(wrong);
          wrong.variance = m.variance * static_cast<double>(d) / static_cast<double>(d - 1);
          unbiased += differs(wrong);
          wrong = m, wrong.mean = rounded(dtype, static_cast<double>(m.mean));
          rounded_mean += differs(wrong);
        }
        CHECK((d < 500 || dtype == DType::bf16 || unbiased > 0));
        CHECK((dtype == DType::bf16 || one_pass > d / 8));
        CHECK((dtype == DType::f32 || rounded_mean > d / 8));
      }
    }
  }
}

TEST_CASE("layernorm: rows of any numbers equal long double, and what has no mean is NaN in its own row only") {
  for (const DType dtype : all_dtypes) {
    for (const ExtremeRow& row : extreme_rows(dtype)) {
      for (const std::int64_t d : {1, 8, 61}) {
        INFO(name_of(dtype), " ", row.what, " d ", d);
        const ExtremeRows rows(dtype, row, d);
        Padded beta(dtype, {d}), y(dtype, {3, d});
        for (int i = 0; i < d; ++i) beta.set(i, i % 3 - 1);
        reference::layernorm(rows.x.t(), rows.weight.t(), beta.t(), y.t(), row.eps);
        LayerNormRows(rows.x, rows.weight, beta, row.eps).check(dtype, y, 0);
        CHECK(std::isnan(y.get(d)) == (row.special != 0));
      }
    }
  }
}

TEST_CASE("layernorm: heads are rows of their own, out may be input, and gamma and beta that are not finite stay in place") {
  Padded heads(DType::f16, {3, 4, 32}), flat(DType::f16, {12, 32}), gamma(DType::f32, {32}), beta(DType::f32, {32});
  Padded out(DType::f16, {12, 32});
  std::mt19937 random(9);
  heads.fill(random, -1, 1), gamma.fill(random, -1, 1), beta.fill(random, -1, 1);
  gamma.set(3, NAN), beta.set(5, std::numeric_limits<double>::infinity());
  for (int i = 0; i < 12 * 32; ++i) flat.set(i, heads.get(i));
  reference::layernorm(flat.t(), gamma.t(), beta.t(), out.t());
  reference::layernorm(heads.t(), gamma.t(), beta.t(), heads.t());
  for (int i = 0; i < 12 * 32; ++i) {
    CHECK(std::isnan(heads.get(i)) == (i % 32 == 3));
    CHECK(std::isinf(heads.get(i)) == (i % 32 == 5));
    if (i % 32 != 3) CHECK(heads.get(i) == out.get(i));
  }
  CHECK(heads.padding_untouched());
}

TEST_CASE("layernorm and gemma norms: bad arguments are refused by name and nothing is written") {
  Padded x(DType::f16, {2, 8}), g(DType::f16, {8}), g32(DType::f32, {8}), bf(DType::bf16, {8}), g7(DType::f32, {7});
  Padded y(DType::f16, {2, 8}), yf(DType::f32, {2, 8}), rank4(DType::f16, {1, 1, 2, 8});
  const auto norm = [&](const std::string& argument, const Tensor& in, const Tensor& gamma, const Tensor& beta,
                        const Tensor& out, float eps = 1e-6f) {
    check_refused(argument, {&x, &y, &yf}, [&] { reference::layernorm(in, gamma, beta, out, eps); });
  };
  norm("input", rank4.t(), g.t(), g.t(), y.t());
  norm("gamma", x.t(), g7.t(), g32.t(), y.t());
  norm("gamma", x.t(), bf.t(), bf.t(), y.t());
  norm("beta", x.t(), g32.t(), g7.t(), y.t());
  norm("beta", x.t(), g32.t(), g.t(), y.t());  // another dtype than gamma's
  norm("out", x.t(), g.t(), g.t(), yf.t());
  norm("eps", x.t(), g.t(), g.t(), y.t(), -1e-6f);
  norm("eps", x.t(), g.t(), g.t(), y.t(), NAN);
  Tensor part = y.t();  // one row of y, as out and as gamma or beta
  part.rank = 1, part.shape[0] = 8, part.strides[0] = 1;
  norm("out", x.t(), part, g.t(), y.t());
  norm("out", x.t(), g.t(), part, y.t());
  check_refused("weight", {&x}, [&] { reference::gemma_rmsnorm(x.t(), g32.t(), x.t()); });
  check_refused("eps", {&x}, [&] { reference::gemma_fused_add_rmsnorm(x.t(), y.t(), g.t(), NAN); });
}
