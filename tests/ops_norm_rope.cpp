// RMSNorm and RoPE: against double, with the rounding checked exactly (one rounding, of the right quantity), and in place.
#include <complex>
#include <numbers>

#include "reference/norm.hpp"
#include "reference/rope_ops.hpp"
#include "tests/ops_data.hpp"

using namespace flashladder;
using namespace ops_test;
using Ints = std::vector<std::int32_t>;

namespace {

// What float arithmetic may lose before the one rounding, relative to the result: a sum of d squares in any order (d + 1
// roundings, halved by the root, and far fewer in practice), root, reciprocal, two products.
double norm_slack(std::int64_t d) { return (0.5 * static_cast<double>(d + 1) + 4) * 0x1p-24; }

std::vector<double> normalised(const std::vector<double>& x, const Padded& weight, double eps) {
  long double squares = 0;
  for (double value : x) squares += value * value;
  const double rms = std::sqrt(static_cast<double>(squares) / static_cast<double>(x.size()) + eps);
  std::vector<double> y;
  for (std::size_t i = 0; i < x.size(); ++i) y.push_back(x[i] * weight.get(i) / rms);
  return y;
}

std::vector<double> row_of(const Padded& t, std::int64_t row, std::int64_t d) {
  std::vector<double> x;
  for (std::int64_t i = 0; i < d; ++i) x.push_back(t.get(row * d + i));
  return x;
}

}  // namespace

TEST_CASE("rmsnorm: equals double and is rounded once") {
  for (DType dtype : all_dtypes) {
    int early_rounding_differs = 0;
    for (std::int64_t d : {1, 7, 64, 111, 576}) {
      CAPTURE(name_of(dtype));
      CAPTURE(d);
      std::mt19937 random(d);
      Padded x(dtype, {4, d}), weight(dtype, {d}), y(dtype, {4, d}, 8);
      x.fill(random, -3, 3);
      weight.fill(random, 0.5, 2);
      reference::rmsnorm(x.t(), weight.t(), y.t(), 1e-5f);
      for (int row = 0; row < 4; ++row) {
        const std::vector<double> in = row_of(x, row, d), exact = normalised(in, weight, 1e-5);
        for (int i = 0; i < d; ++i) {
          CHECK(is_rounded_once(dtype, y.get(row * d + i), exact[i], norm_slack(d) * std::abs(exact[i])));
          const double early = rounded(dtype, rounded(dtype, exact[i] / weight.get(i)) * weight.get(i));
          early_rounding_differs += !is_rounded_once(dtype, early, exact[i], norm_slack(d) * std::abs(exact[i]));
        }
      }
      CHECK(y.padding_untouched());
      CHECK(x.padding_untouched());
    }
    CHECK((early_rounding_differs > 100) == (dtype != DType::f32));  // (T)(x * rms) * w would have been seen
  }
}

TEST_CASE("rmsnorm: exact where every step is exact and eps counts") {
  Padded x(DType::bf16, {1, 16}), weight(DType::bf16, {16}), y(DType::bf16, {1, 16});
  for (int i = 0; i < 16; ++i) {
    x.set(i, i == 3 ? 7 : -1);  // squares 49 + 15: mean 4, rms 2
    weight.set(i, 1 + i / 128.0);
  }
  reference::rmsnorm(x.t(), weight.t(), y.t(), 0);
  for (int i = 0; i < 16; ++i) CHECK(y.get(i) == rounded(DType::bf16, (i == 3 ? 3.5 : -0.5) * (1 + i / 128.0)));
  reference::rmsnorm(x.t(), weight.t(), y.t(), 12);  // rms 4
  for (int i = 0; i < 16; ++i) CHECK(y.get(i) == rounded(DType::bf16, (i == 3 ? 1.75 : -0.25) * (1 + i / 128.0)));
}

TEST_CASE("rmsnorm: heads are rows of their own and out may be input") {
  Padded heads(DType::f16, {3, 4, 32}), flat(DType::f16, {12, 32}), weight(DType::f16, {32}), out(DType::f16, {12, 32});
  std::mt19937 random(9);
  heads.fill(random, -1, 1);
  weight.fill(random, -1, 1);
  for (int i = 0; i < 12 * 32; ++i) flat.set(i, heads.get(i));
  reference::rmsnorm(flat.t(), weight.t(), out.t());
  reference::rmsnorm(heads.t(), weight.t(), heads.t());
  for (int i = 0; i < 12 * 32; ++i) CHECK(heads.get(i) == out.get(i));
  CHECK(heads.padding_untouched());
}

TEST_CASE("fused_add_rmsnorm: the residual is rounded and the norm takes the sum that was not") {
  for (DType dtype : all_dtypes) {
    CAPTURE(name_of(dtype));
    constexpr std::int64_t n = 5, d = 96;
    std::mt19937 random(21);
    Padded x(dtype, {n, d}), residual(dtype, {n, d}), weight(dtype, {d}), x0(dtype, {n, d}), residual0(dtype, {n, d});
    x.fill(random, 0.5, 2);
    residual.fill(random, -0.25, 0.25);
    weight.fill(random, 0.5, 2);
    x0.copy(x);
    residual0.copy(residual);
    reference::fused_add_rmsnorm(x.t(), residual.t(), weight.t());
    int rounding_first_differs = 0;
    for (int row = 0; row < n; ++row) {
      std::vector<double> t, t_rounded;
      for (int i = 0; i < d; ++i) {
        t.push_back(static_cast<float>(x0.get(row * d + i) + residual0.get(row * d + i)));
        t_rounded.push_back(rounded(dtype, t.back()));
        CHECK(residual.get(row * d + i) == t_rounded.back());
      }
      const auto exact = normalised(t, weight, 1e-6), wrong = normalised(t_rounded, weight, 1e-6);
      for (int i = 0; i < d; ++i) {
        const double slack = norm_slack(d) * std::abs(exact[i]);
        CHECK(is_rounded_once(dtype, x.get(row * d + i), exact[i], slack));
        rounding_first_differs += !is_rounded_once(dtype, rounded(dtype, wrong[i]), exact[i], slack);
      }
    }
    CHECK((rounding_first_differs > 20) == (dtype != DType::f32));  // the other order would have been seen
    CHECK(x.padding_untouched());
    CHECK(residual.padding_untouched());
  }
}

TEST_CASE("norm: bad arguments are refused by name and nothing is written") {
  Padded x(DType::f16, {2, 8}), w(DType::f16, {8}), y(DType::f16, {2, 8}), w7(DType::f16, {7}), wf(DType::f32, {8});
  Padded yf(DType::f32, {2, 8}), rank4(DType::f16, {1, 1, 2, 8});
  const auto norm = [&](const std::string& argument, const Tensor& in, const Tensor& weight, const Tensor& out,
                        float eps = 1e-6f) {
    check_refused(argument, {&y, &yf}, [&] { reference::rmsnorm(in, weight, out, eps); });
  };
  norm("input", rank4.t(), w.t(), y.t());
  norm("weight", x.t(), w7.t(), y.t());
  norm("weight", x.t(), wf.t(), y.t());
  norm("out", x.t(), w.t(), yf.t());
  norm("out", x.t(), w.t(), w.t());
  norm("eps", x.t(), w.t(), y.t(), -1e-6f);
  norm("eps", x.t(), w.t(), y.t(), NAN);
  Tensor empty = x.t();
  empty.shape[1] = 0;
  norm("input", empty, w.t(), y.t());
  const auto fused = [&](const std::string& argument, const Tensor& in, const Tensor& residual, const Tensor& weight) {
    check_refused(argument, {&x, &y}, [&] { reference::fused_add_rmsnorm(in, residual, weight); });
  };
  fused("residual", x.t(), x.t(), w.t());
  fused("residual", x.t(), yf.t(), w.t());
  fused("weight", x.t(), y.t(), w7.t());
  Tensor overlapping = x.t();
  overlapping.strides[0] = 4;
  fused("input", overlapping, y.t(), w.t());
}

namespace {

// RoPE as a product of complex numbers: pair p of a head times e^(i angle).
std::vector<double> rotated(const std::vector<double>& head, std::int64_t position, int rotary_dim, bool interleave,
                            double scale, double theta) {
  std::vector<double> out = head;
  for (int p = 0; p < rotary_dim / 2; ++p) {
    const int re = interleave ? 2 * p : p, im = interleave ? 2 * p + 1 : p + rotary_dim / 2;
    const double frequency = std::exp(-std::log(theta) * (2.0 * p) / rotary_dim);
    const double angle = std::fmod(static_cast<double>(position) / scale * frequency, 2 * std::numbers::pi);
    const auto z = std::complex(head[re], head[im]) * std::polar(1.0, angle);
    out[re] = z.real();
    out[im] = z.imag();
  }
  return out;
}

struct QK {
  static constexpr int nnz = 4, q_heads = 3, k_heads = 2, dim = 16;
  Padded q, k;
  explicit QK(DType dtype) : q(dtype, {nnz, q_heads, dim}), k(dtype, {nnz, k_heads, dim}) {
    std::mt19937 random(17);
    q.fill(random, -2, 2);
    k.fill(random, -2, 2);
  }
};
const Ints positions{0, 1, 777, 100003};

}  // namespace

TEST_CASE("apply_rope_pos_ids_inplace: both styles and partial dims equal a complex rotation rounded once") {
  for (DType dtype : all_dtypes) {
    for (bool interleave : {false, true}) {
      for (int rotary_dim : {0, 16, 8, 2}) {
        CAPTURE(name_of(dtype));
        CAPTURE(interleave);
        CAPTURE(rotary_dim);
        const QK before(dtype);
        QK after(dtype);
        reference::apply_rope_pos_ids_inplace(after.q.t(), after.k.t(), positions, rotary_dim, interleave, 4, 5e5);
        const auto compare = [&](const Padded& was, const Padded& is, int heads) {
          for (int row = 0; row < QK::nnz * heads; ++row) {
            const auto head = row_of(was, row, QK::dim);
            const auto exact = rotated(head, positions[row / heads], rotary_dim ? rotary_dim : QK::dim, interleave, 4, 5e5);
            for (int i = 0; i < QK::dim; ++i) {
              // |x|, |y| <= 2: cos and sin, two products and a sum in float, each off by 2 u or less of 2
              CHECK(is_rounded_once(dtype, is.get(row * QK::dim + i), exact[i], 10 * 0x1p-24));
            }
          }
          CHECK(is.padding_untouched());
        };
        compare(before.q, after.q, QK::q_heads);
        compare(before.k, after.k, QK::k_heads);
      }
    }
  }
}

TEST_CASE("RoPE: features beyond rotary_dim keep their bits even where they are NaN") {
  QK qk(DType::f16);
  std::uint16_t* head = qk.q.t().data_as<std::uint16_t>();
  for (int i = 8; i < QK::dim; ++i) head[i] = static_cast<std::uint16_t>(0x7c01 + 0x81 * i);  // signalling and quiet NaNs
  reference::apply_rope_pos_ids_inplace(qk.q.t(), qk.k.t(), Ints{5, 5, 5, 5}, 8);
  for (int i = 8; i < QK::dim; ++i) CHECK(head[i] == static_cast<std::uint16_t>(0x7c01 + 0x81 * i));
}

TEST_CASE("RoPE: dot products depend on the distance of positions only") {
  for (bool interleave : {false, true}) {
    double dots[2];
    for (int shift : {0, 1}) {
      QK qk(DType::f32);
      reference::apply_rope_pos_ids_inplace(qk.q.t(), qk.k.t(), Ints(QK::nnz, 40 + 5000 * shift), 0, interleave);
      QK other(DType::f32);
      reference::apply_rope_pos_ids_inplace(other.q.t(), other.k.t(), Ints(QK::nnz, 17 + 5000 * shift), 0, interleave);
      dots[shift] = 0;
      for (int i = 0; i < QK::dim; ++i) dots[shift] += qk.q.get(i) * other.k.get(i);
    }
    CHECK(std::abs(dots[0] - dots[1]) <= QK::dim * 4 * 8 * 0x1p-24);
  }
}

TEST_CASE("apply_rope_with_cos_sin_cache_inplace: equals pos ids bit for bit and the cache has cosines first") {
  const Ints rows{0, 3, 99, 41};
  const std::vector<float> cache = reference::make_cos_sin_cache(100, 12, 2, 1e4);
  REQUIRE(cache.size() == 1200);
  for (int p = 0; p < 6; ++p) {
    const double angle = 99 / 2.0 / std::pow(1e4, p / 6.0);
    CHECK(std::abs(cache[99 * 12 + p] - std::cos(angle)) <= 0x1p-24);
    CHECK(std::abs(cache[99 * 12 + 6 + p] - std::sin(angle)) <= 0x1p-24);
  }
  Padded table(DType::f32, {100, 12});
  for (int i = 0; i < 1200; ++i) table.set(i, cache[i]);
  for (DType dtype : all_dtypes) {
    for (bool neox : {true, false}) {
      QK by_cache(dtype), by_position(dtype);
      reference::apply_rope_with_cos_sin_cache_inplace(rows, by_cache.q.t(), by_cache.k.t(), table.t(), neox);
      reference::apply_rope_pos_ids_inplace(by_position.q.t(), by_position.k.t(), rows, 12, !neox, 2, 1e4);
      CHECK(by_cache.q.bytes() == by_position.q.bytes());
      CHECK(by_cache.k.bytes() == by_position.k.bytes());
      CHECK(by_cache.q.bytes() != QK(dtype).q.bytes());
    }
  }
}

TEST_CASE("RoPE: bad arguments are refused by name and nothing is written") {
  QK qk(DType::bf16), floats(DType::f32);
  Padded table(DType::f32, {8, 16}), wide(DType::f32, {8, 18}), odd(DType::f32, {8, 7}), half(DType::f16, {8, 16});
  const auto rope = [&](const std::string& argument, Ints pos, std::int32_t rotary_dim, float scale, float theta) {
    check_refused(argument, {&qk.q, &qk.k}, [&] {
      reference::apply_rope_pos_ids_inplace(qk.q.t(), qk.k.t(), pos, rotary_dim, false, scale, theta);
    });
  };
  rope("pos_ids", {0, 1, 2}, 0, 1, 1e4f);
  rope("pos_ids[3]", {0, 1, 2, -1}, 0, 1, 1e4f);
  rope("rotary_dim", {0, 1, 2, 3}, 7, 1, 1e4f);
  rope("rotary_dim", {0, 1, 2, 3}, 18, 1, 1e4f);
  rope("rotary_dim", {0, 1, 2, 3}, -2, 1, 1e4f);
  rope("rope_scale", {0, 1, 2, 3}, 0, 0, 1e4f);
  rope("rope_theta", {0, 1, 2, 3}, 0, 1, NAN);
  const auto cached = [&](const std::string& argument, Ints pos, const Tensor& q, const Tensor& k, const Tensor& cache) {
    check_refused(argument, {&qk.q, &qk.k}, [&] { reference::apply_rope_with_cos_sin_cache_inplace(pos, q, k, cache); });
  };
  cached("positions[2]", {0, 1, 8, 3}, qk.q.t(), qk.k.t(), table.t());
  cached("positions[0]", {-1, 1, 7, 3}, qk.q.t(), qk.k.t(), table.t());
  cached("cos_sin_cache", {0, 1, 2, 3}, qk.q.t(), qk.k.t(), half.t());
  cached("cos_sin_cache rotary_dim", {0, 1, 2, 3}, qk.q.t(), qk.k.t(), wide.t());
  cached("cos_sin_cache rotary_dim", {0, 1, 2, 3}, qk.q.t(), qk.k.t(), odd.t());
  cached("k", {0, 1, 2, 3}, qk.q.t(), floats.k.t(), table.t());
  cached("k", {0, 1, 2, 3}, qk.q.t(), qk.q.t(), table.t());
  check_refused("max_pos", {}, [] { reference::make_cos_sin_cache(0, 8); });
  check_refused("rotary_dim", {}, [] { reference::make_cos_sin_cache(4, 5); });
}
