// The arithmetic that every rung shares: softmax states, logits, RoPE.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/divisor.hpp"
#include "core/rope.hpp"
#include "core/score_transform.hpp"
#include "core/softmax_state.hpp"

using namespace flashladder;
using State = SoftmaxState<double>;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

// A partial softmax with its accumulator, merged the way every caller does.
struct Partial {
  State s;
  double o = 0;  // not normalised
};
Partial merged(Partial a, const Partial& b) {
  const auto w = merge(a.s, b.s);
  a.o = a.o * w.a + b.o * w.b;
  return a;
}

bool near(double a, double b, double tolerance = 1e-13) {
  if (a == b) return true;
  return std::abs(a - b) <= tolerance * std::max(1.0, std::abs(b));  // false for NaN
}
bool same(const Partial& a, const Partial& b) {
  return near(a.s.lse_log2(), b.s.lse_log2()) && near(a.o * a.s.inverse_d(), b.o * b.s.inverse_d());
}

}  // namespace

TEST_CASE("SoftmaxState: nothing seen is the identity") {
  for (const Partial x : {Partial{{3.5, 2.0}, 7.0}, Partial{{-1e5, 1.0}, -2.0}, Partial{}}) {
    for (const Partial& y : {merged(x, {}), merged({}, x)}) {
      CHECK(y.s.m == x.s.m);
      CHECK(y.s.d == x.s.d);
      CHECK(y.o == x.o);
    }
  }
  CHECK(State{}.lse_log2() == -inf);
  CHECK(State{}.inverse_d() == 0);
  CHECK(State::from_lse_log2(-inf).d == 0);
  CHECK(State::from_lse_log2(4.0).lse_log2() == 4.0);
  const Partial x{{3.5, 2.0}, 7.0}, broken{{std::nan(""), 1.0}, 1.0};  // NaN is no "nothing": it must come out again
  for (const Partial& y : {merged(x, broken), merged(broken, x)}) CHECK(std::isnan(y.s.lse_log2() + y.s.inverse_d()));
}

TEST_CASE("SoftmaxState: merge commutes and associates up to rounding") {
  std::mt19937 random(11);
  std::uniform_real_distribution<double> logit(-30, 30), weight(0.5, 50), value(-1, 1);
  int wrong = 0;
  for (int n = 0; n < 1000; ++n) {
    const auto draw = [&] { return Partial{{logit(random), weight(random)}, value(random)}; };
    const Partial a = draw(), b = draw(), c = n % 7 == 0 ? Partial{} : draw();
    // Not to the bit: a fused multiply-add rounds only one of the two products, and which one depends on the order.
    wrong += !same(merged(a, b), merged(b, a));
    wrong += !same(merged(merged(a, b), c), merged(a, merged(b, c)));
  }
  CHECK(wrong == 0);
}

TEST_CASE("SoftmaxState: any cut and any tree equal the whole") {
  std::mt19937 random(5);
  std::normal_distribution<double> normal(0, 8);
  for (int n = 0; n < 200; ++n) {
    const int keys = 1 + n % 40;
    std::vector<Partial> parts;
    double maximum = -inf, sum = 0, weighted = 0;
    for (int j = 0; j < keys; ++j) {
      const double x = n % 10 == 0 ? 1e5 : normal(random), v = normal(random);
      parts.push_back({{x, 1.0}, v});
      maximum = std::max(maximum, x);
    }
    for (const Partial& p : parts) {
      sum += std::exp2(p.s.m - maximum);
      weighted += std::exp2(p.s.m - maximum) * p.o;
    }
    while (parts.size() > 1) {  // join any two: a random tree over random subsets
      std::shuffle(parts.begin(), parts.end(), random);
      const Partial last = parts.back();
      parts.pop_back();
      parts.back() = merged(parts.back(), last);
    }
    CHECK(near(parts[0].s.lse_log2(), maximum + std::log2(sum)));
    CHECK(near(parts[0].o * parts[0].s.inverse_d(), weighted / sum, 1e-12));
  }
}

TEST_CASE("SoftmaxState: sinks and the conversions of lse") {
  const Partial row{{2.0, 4.0}, 12.0};  // lse_log2 = 4, o = 3
  const double sink = std::log(16.0);   // as heavy as the row: 2^4
  const Partial with = merged(row, {State::from_sink(sink), 0});
  CHECK(near(with.s.lse_log2(), 5.0));
  CHECK(near(with.o * with.s.inverse_d(), 1.5));
  const Partial alone = merged({}, {State::from_sink(sink), 0});
  CHECK(near(alone.s.lse_log2(), 4.0));
  CHECK(alone.o * alone.s.inverse_d() == 0);
  for (const Partial& x : {row, Partial{}}) {  // a sink of -inf weighs nothing
    const Partial y = merged(x, {State::from_sink(-inf), 0});
    CHECK(y.s.lse_log2() == x.s.lse_log2());
    CHECK(y.o == x.o);
  }
  CHECK(near(lse_log2_from_natural(std::log(8.0)), 3.0));
  CHECK(near(lse_natural_from_log2(3.0), std::log(8.0)));
  CHECK(lse_log2_from_natural(-inf) == -inf);
}

TEST_CASE("SoftmaxState: partials with an infinite or NaN lse") {
  const auto of = [](double lse, double o) { return Partial{State::from_lse_log2(lse), o}; };
  for (const bool swapped : {false, true}) {
    const auto both = [&](const Partial& a, const Partial& b) { return swapped ? merged(b, a) : merged(a, b); };
    const Partial wins = both(of(inf, 2), of(3, 5));
    CHECK(wins.s.lse_log2() == inf);
    CHECK(wins.o * wins.s.inverse_d() == 2);
    const Partial alike = both(of(inf, 2), of(inf, 6));
    CHECK(alike.s.lse_log2() == inf);
    CHECK(alike.o * alike.s.inverse_d() == 4);
    const Partial alone = both(of(inf, 2), {});
    CHECK(alone.o * alone.s.inverse_d() == 2);
    for (const double other : {-inf, 3.0, inf}) {
      const Partial lost = both(of(std::nan(""), 2), of(other, 5));
      CHECK(std::isnan(lost.s.lse_log2()));
      CHECK(std::isnan(lost.o * lost.s.inverse_d()));
    }
  }
}

TEST_CASE("finish_row: the sink and the row's constant, whichever is larger") {
  const State row{2.0, 4.0};  // lse_log2 = 4
  CHECK(finish_row(row, -inf, 0.0).scale == 0.25);
  CHECK(finish_row(row, -inf, 10.0).lse_log2 == 14);
  CHECK(finish_row(State{}, -inf, 10.0).scale == 0);
  CHECK(finish_row(State{}, -inf, 10.0).lse_log2 == -inf);
  CHECK(finish_row(State{}, 7.0, 10.0).scale == 0);
  CHECK(finish_row(State{}, 7.0, 10.0).lse_log2 == 7);
  for (const double constant : {-20.0, 0.0, 20.0}) {  // the sink as heavy as the row: half of the weight
    const auto [scale, lse_log2] = finish_row(row, 4 + constant, constant);
    CHECK(near(scale, 0.125));
    CHECK(near(lse_log2, 5 + constant));
  }
  CHECK(near(finish_row(row, 6.0, 0.0).scale, 0.25 / 5));  // the sink four times as heavy, and above the maximum
  CHECK(near(finish_row(row, 6.0, 0.0).lse_log2, 4 + std::log2(5.0)));
  const auto heavy = finish_row(row, inf, 0.0);
  CHECK(heavy.scale == 0);
  CHECK(heavy.lse_log2 == inf);
  CHECK(std::isnan(finish_row(row, std::nan(""), 0.0).scale));
  CHECK(std::isnan(finish_row(row, std::nan(""), 0.0).lse_log2));
  CHECK(std::isnan(finish_row(State{2.0, std::nan("")}, 100.0, 0.0).scale));
}

TEST_CASE("ScoreTransform: scale once and then soft cap and then ALiBi") {
  AttentionParams p;
  p.num_qo_heads = 8;
  p.sm_scale = 0.25f;
  CHECK(ScoreTransform<double>(p, 0).only_scales());
  CHECK(near(ScoreTransform<double>(p, 0)(12.0, 3, 5), 3.0 * log2_e));
  p.logits_soft_cap = 2;
  CHECK(near(ScoreTransform<double>(p, 0)(12.0, 3, 5), 2 * std::tanh(1.5) * log2_e));
  p.pos_encoding_mode = PosEncodingMode::ALIBI;  // head 1: slope 1/4, key 4 to the left of the query
  CHECK(near(ScoreTransform<double>(p, 1)(12.0, 9, 5), (2 * std::tanh(1.5) - 1.0) * log2_e));
  p.logits_soft_cap = 0;
  CHECK(near(ScoreTransform<double>(p, 1)(12.0, 9, 5), (3.0 - 1.0) * log2_e));
  CHECK_FALSE(ScoreTransform<double>(p, 1).only_scales());
  for (const std::int32_t origin : {0, 5, 20}) {  // another origin moves all logits of a row alike, by row_constant
    const ScoreTransform<double> t(p, 1);
    CHECK(near(t(12.0, origin, 5) + t.row_constant(9, origin), (3.0 - 1.0) * log2_e));
  }
  p.pos_encoding_mode = PosEncodingMode::NONE;
  CHECK(ScoreTransform<double>(p, 1).row_constant(9, 20) == 0);
}

TEST_CASE("ALiBi slopes by hand for 8 and 12 heads") {
  const double eight[] = {1. / 2, 1. / 4, 1. / 8, 1. / 16, 1. / 32, 1. / 64, 1. / 128, 1. / 256};
  const double extra[] = {-0.5, -1.5, -2.5, -3.5};  // exponents: the odd steps of the 16-head sequence
  for (int h = 0; h < 8; ++h) {
    CHECK(alibi_slope(h, 8) == eight[h]);
    CHECK(alibi_slope(h, 12) == eight[h]);
  }
  for (int h = 8; h < 12; ++h) CHECK(near(alibi_slope(h, 12), std::pow(2.0, extra[h - 8])));
}

TEST_CASE("RoPE: the two styles differ by a permutation and position 0 turns nothing") {
  constexpr int dim = 10, rotary = 8;
  std::array<double, dim> neox, interleaved, zero;
  for (int f = 0; f < dim; ++f) neox[f] = zero[f] = std::sin(f + 1.0);
  interleaved = neox;
  for (int k = 0; k < rotary / 2; ++k) {
    interleaved[2 * k] = neox[k];
    interleaved[2 * k + 1] = neox[k + rotary / 2];
  }
  apply_rope(neox.data(), RopeStyle::neox, 37, rotary, 2.0, 10000.0);
  apply_rope(interleaved.data(), RopeStyle::interleaved, 37, rotary, 2.0, 10000.0);
  for (int k = 0; k < rotary / 2; ++k) {
    CHECK(interleaved[2 * k] == neox[k]);
    CHECK(interleaved[2 * k + 1] == neox[k + rotary / 2]);
  }
  for (int f = rotary; f < dim; ++f) CHECK(neox[f] == zero[f]);  // beyond rotary_dim: passed through
  const double angle = 37.0 / 2.0 * std::pow(10000.0, -2.0 / 8.0);  // pair 1: features 1 and 5
  CHECK(near(neox[1], zero[1] * std::cos(angle) - zero[5] * std::sin(angle)));
  CHECK(near(neox[5], zero[5] * std::cos(angle) + zero[1] * std::sin(angle)));
  auto still = zero;
  apply_rope(still.data(), RopeStyle::neox, 0, rotary, 1.0, 10000.0);
  CHECK(still == zero);
}

TEST_CASE("RoPE: a dot product depends on the distance only") {
  constexpr int dim = 64;
  std::array<double, dim> q, k;
  for (int f = 0; f < dim; ++f) q[f] = std::sin(f * 1.3), k[f] = std::cos(f * 0.7);
  const auto dot = [&](std::int64_t at_q, std::int64_t at_k) {
    auto a = q, b = k;
    apply_rope(a.data(), RopeStyle::neox, at_q, dim, 1.0, 10000.0);
    apply_rope(b.data(), RopeStyle::neox, at_k, dim, 1.0, 10000.0);
    double sum = 0;
    for (int f = 0; f < dim; ++f) sum += a[f] * b[f];
    return sum;
  };
  CHECK(near(dot(5, 2), dot(1005, 1002), 1e-11));
  CHECK(near(dot(5, 2), dot(100005, 100002), 1e-9));
  CHECK_FALSE(near(dot(5, 2), dot(6, 2), 1e-3));
}

TEST_CASE("Divisor: multiplying and shifting divides") {
  for (const std::int32_t d : {1, 2, 3, 5, 7, 8, 16, 24, 63, 64, 96, 1000, 65535, 65536, 1 << 30, 2147483647}) {
    const Divisor by(d);
    const std::int64_t most = 2147483647, one = 1, last = most / d * d;
    for (const std::int64_t n : {one - 1, one, d - one, d + one - 1, d + one, 2 * d * one - 1, last, last - 1, most - 1, most}) {
      if (n < 0 || n > most) continue;
      CHECK(by.quotient(static_cast<std::int32_t>(n)) == n / d);
    }
  }
}
