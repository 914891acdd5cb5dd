// The operations on any numbers: infinities, NaN, squares that leave the range of float, the last position. The right values
// are formed in long double, or said by hand.
#include <limits>

#include "core/softmax_state.hpp"
#include "reference/append.hpp"
#include "reference/merge_states.hpp"
#include "reference/norm.hpp"
#include "reference/rope_append.hpp"
#include "reference/rope_ops.hpp"
#include "tests/norm_extreme.hpp"
#include "tests/ops_data.hpp"
#include "tests/rope_exact.hpp"

using namespace flashladder;
using namespace ops_test;
using Ints = std::vector<std::int32_t>;

namespace {

constexpr float inf_f32 = std::numeric_limits<float>::infinity(), no_number = std::numeric_limits<float>::quiet_NaN();

struct Pair {
  float v, s;
};
bool same(float got, float wanted) { return std::isnan(wanted) ? std::isnan(got) : got == wanted; }

// The merge of two states of one row and head, by each of the four functions, which must agree. Rows beside it are finite.
Pair merged(Pair a, Pair b) {
  constexpr int n = 3;
  const auto row = [](float x) { return std::vector<float>{1, x, 3}; };
  std::vector<float> va = row(a.v), sa = row(a.s), vb = row(b.v), sb = row(b.s), v(n), s(n), v2(n), s2(n);
  const auto vt = [](std::vector<float>& x) { return contiguous(x.data(), DType::f32, {n, 1, 1}); };
  const auto st = [](std::vector<float>& x) { return contiguous(x.data(), DType::f32, {n, 1}); };
  reference::merge_state(vt(va), st(sa), vt(vb), st(sb), vt(v), st(s));
  for (const int i : {0, 2}) {
    CHECK(v[i] == va[i]);  // equal states
    CHECK(s[i] == sa[i] + 1);
  }
  std::vector<float> both_v, both_s;
  for (int i = 0; i < n; ++i) {
    both_v.insert(both_v.end(), {va[i], vb[i]});
    both_s.insert(both_s.end(), {sa[i], sb[i]});
  }
  const auto agrees = [&](const std::vector<float>& v_other, const std::vector<float>& s_other) {
    for (int i = 0; i < n; ++i) CHECK((same(v_other[i], v[i]) && same(s_other[i], s[i])));
  };
  reference::merge_states(contiguous(both_v.data(), DType::f32, {n, 2, 1, 1}),
                          contiguous(both_s.data(), DType::f32, {n, 2, 1}), vt(v2), st(s2));
  agrees(v2, s2);
  reference::variable_length_merge_states(contiguous(both_v.data(), DType::f32, {2 * n, 1, 1}),
                                          contiguous(both_s.data(), DType::f32, {2 * n, 1}), Ints{0, 2, 4, 6}, vt(v2),
                                          st(s2));
  agrees(v2, s2);
  reference::merge_state_in_place(vt(va), st(sa), vt(vb), st(sb));
  agrees(va, sa);
  return {v[1], s[1]};
}

}  // namespace

TEST_CASE("merge: states of any lse, each by the rule and in its own row only") {
  struct Case {
    Pair a, b, wanted;
  };
  const Case cases[] = {
      {{0, inf_f32}, {2, 3}, {0, inf_f32}},  // the example of the fault: NaN before
      {{0, inf_f32}, {2, inf_f32}, {1, inf_f32}},  // alike: the mean
      {{7, inf_f32}, {no_number, -inf_f32}, {7, inf_f32}},  // a state that saw nothing is not looked at
      {{7, -inf_f32}, {no_number, -inf_f32}, {0, -inf_f32}},
      {{7, 2}, {inf_f32, -inf_f32}, {7, 2}},
      {{7, no_number}, {2, 3}, {no_number, no_number}},
      {{7, no_number}, {2, inf_f32}, {no_number, no_number}},
      {{7, no_number}, {2, -inf_f32}, {no_number, no_number}},
      {{no_number, 1}, {2, 1}, {no_number, 2}},  // what was seen spreads, the weights stay
      {{inf_f32, 1}, {2, 1}, {inf_f32, 2}},
      {{inf_f32, 1}, {-inf_f32, 1}, {no_number, 2}},
      {{2, 3e38f}, {5, -3e38f}, {2, 3e38f}},  // their distance is more than a float holds
      {{2, 3e38f}, {4, 3e38f}, {3, 3e38f}},
  };
  for (const Case& c : cases) {
    for (const auto& [a, b] : {std::pair(c.a, c.b), std::pair(c.b, c.a)}) {
      const Pair got = merged(a, b);
      INFO("(", a.v, ", ", a.s, ") and (", b.v, ", ", b.s, "): (", got.v, ", ", got.s, ")");
      CHECK(same(got.v, c.wanted.v));
      CHECK(same(got.s, c.wanted.s));
    }
  }
}

TEST_CASE("merge_states: three states of +inf weigh alike whatever lies between them") {
  std::vector<float> v{3, 100, 6, no_number, 9}, s{inf_f32, 5, inf_f32, -inf_f32, inf_f32}, out(1), lse(1);
  reference::merge_states(contiguous(v.data(), DType::f32, {1, 5, 1, 1}), contiguous(s.data(), DType::f32, {1, 5, 1}),
                          contiguous(out.data(), DType::f32, {1, 1, 1}), contiguous(lse.data(), DType::f32, {1, 1}));
  CHECK(std::abs(out[0] - 6) <= 4 * 0x1p-22);
  CHECK(lse[0] == inf_f32);
}

TEST_CASE("rmsnorm: rows of any numbers equal long double") {
  for (const DType dtype : all_dtypes) {
    for (const ExtremeRow& row : extreme_rows(dtype)) {
      for (const std::int64_t d : {1, 8, 61}) {
        INFO(name_of(dtype), " ", row.what, " d ", d);
        const ExtremeRows rows(dtype, row, d);
        Padded out(dtype, {3, d});
        reference::rmsnorm(rows.x.t(), rows.weight.t(), out.t(), row.eps);
        rows.check(rows.x, out);
      }
    }
  }
}

TEST_CASE("rows without heads are no work however many they are") {
  float x = 1;
  const std::int64_t many = std::int64_t{1} << 62;
  const Tensor none = contiguous(nullptr, DType::f32, {many, 0, 1}), no_lse = contiguous(nullptr, DType::f32, {many, 0});
  reference::rmsnorm(none, contiguous(&x, DType::f32, {1}), none);
  reference::merge_state_in_place(none, no_lse, none, no_lse);
  CHECK(x == 1);
}

TEST_CASE("fused_add_rmsnorm: sums of any numbers equal long double") {
  for (const DType dtype : all_dtypes) {
    for (const ExtremeRow& row : extreme_rows(dtype)) {
      INFO(name_of(dtype), " ", row.what);
      const ExtremeRows rows(dtype, row, 40);
      Padded x(dtype, {3, 40}), residual(dtype, {3, 40}), sums(DType::f32, {3, 40});
      x.copy(rows.x), residual.copy(rows.x);
      for (int i = 0; i < 3 * 40; ++i) {
        residual.set(i, rows.x.get(i) / 2);
        sums.set(i, static_cast<float>(x.get(i)) + static_cast<float>(residual.get(i)));  // infinite where float ends
      }
      reference::fused_add_rmsnorm(x.t(), residual.t(), rows.weight.t(), row.eps);
      rows.check(sums, x);
      Padded rounded_sums(dtype, {3, 40});
      for (int i = 0; i < 3 * 40; ++i) rounded_sums.set(i, sums.get(i));
      CHECK(residual.bytes() == rounded_sums.bytes());
    }
  }
}

TEST_CASE("RoPE: the last position and any other, and negative ones are refused") {
  constexpr int dim = 128;
  RopeCase c{.dim = dim, .rotary_dim = dim};
  const Ints positions{2147483647, 2147483646, 1 << 30, 10'000'000, 0};
  Padded q(DType::f32, {5, 1, dim}), k(DType::f32, {5, 1, dim}), before(DType::f32, {5, 1, dim});
  std::mt19937 random(4);
  q.fill(random, -1, 1), k.fill(random, -1, 1), before.copy(q);
  reference::apply_rope_pos_ids_inplace(q.t(), k.t(), positions);
  for (int row = 0; row < 5; ++row) {
    std::vector<double> head;
    for (int i = 0; i < dim; ++i) head.push_back(before.get(row * dim + i));
    const RotatedRow exact = rotated_row(head, c, [&](int pair) { return exact_rotation(positions[row], pair, c); });
    for (int i = 0; i < dim; ++i) {
      const double angle_error = positions[row] * 0x1p-52;  // reference/rope_ops.hpp
      CHECK(std::abs(q.get(row * dim + i) - exact.exact[i]) <= exact.scale[i] * (8 * 0x1p-24 + 2 * angle_error));
    }
  }
  const auto refused = [&](Ints bad) {
    check_refused("pos_ids[4]", {&q, &k}, [&] { reference::apply_rope_pos_ids_inplace(q.t(), k.t(), bad); });
  };
  refused({0, 0, 0, 0, -1});
  refused({0, 0, 0, 0, std::numeric_limits<std::int32_t>::min()});
}

TEST_CASE("RoPE: numbers that are not finite spread to their pair and no further") {
  for (const bool neox : {true, false}) {
    Padded q(DType::bf16, {2, 1, 8}), k(DType::bf16, {2, 1, 8}), table(DType::f32, {2, 8});
    for (int i = 0; i < 16; ++i) q.set(i, 1), k.set(i, 1);
    for (int p = 0; p < 4; ++p) table.set(p, 0.5), table.set(4 + p, 0.25), table.set(8 + p, 1), table.set(12 + p, 0);
    table.set(4 + 1, no_number);  // the sine of row 0, pair 1
    q.set(0, inf_f32);          // a feature of token 0, pair 0
    k.set(8, no_number);          // of token 1, pair 0
    reference::apply_rope_with_cos_sin_cache_inplace(Ints{0, 1}, q.t(), k.t(), table.t(), neox);
    const auto pair_of = [&](int feature) { return neox ? feature % 4 : feature / 2; };
    for (int i = 0; i < 8; ++i) {
      CHECK(std::isnan(q.get(i)) == (pair_of(i) == 1));
      CHECK(std::isinf(q.get(i)) == (pair_of(i) == 0));
      CHECK(std::isnan(k.get(i)) == (pair_of(i) == 1));
      CHECK(std::isfinite(q.get(8 + i)));
      CHECK(std::isnan(k.get(8 + i)) == (pair_of(i) == 0));
    }
  }
}

TEST_CASE("RoPE and append: a row that goes nowhere is not read, and of one that does NaN bits are kept beyond rotary_dim") {
  Padded q(DType::f16, {2, 1, 8}), key(DType::f16, {2, 1, 8}), value(DType::f16, {2, 1, 8});
  Padded k(DType::f16, {1, 4, 1, 8}), v(DType::f16, {1, 4, 1, 8});
  for (int i = 0; i < 16; ++i) q.set(i, 1), key.set(i, 1), value.set(i, 2);
  auto* bits = key.t().data_as<std::uint16_t>();
  for (int i = 4; i < 8; ++i) bits[i] = static_cast<std::uint16_t>(0x7c01 + i);  // signalling
  const Ints empty_indptr{0}, nothing;
  const std::vector<unsigned char> q_before = q.bytes();
  reference::rope_with_cos_sin_cache_append_paged_kv_cache(
      q.t(), key.t(), value.t(), contiguous(static_cast<const void*>(nullptr), DType::f32, {0, 4}), true, Ints{-1, -1},
      Ints{-7, 9}, paged_kv_cache(k.t(), v.t(), KvLayout::NHD), {empty_indptr, nothing, nothing});
  CHECK(q.bytes() == q_before);
  reference::rope_pos_ids_append_paged_kv_cache(q.t(), key.t(), value.t(), 4, false, 1, 1e4f, Ints{0, -1}, Ints{3, 2},
                                                paged_kv_cache(k.t(), v.t(), KvLayout::NHD),
                                                {Ints{0, 1}, Ints{0}, Ints{4}});
  const auto* stored = k.t().data_as<std::uint16_t>() + 3 * k.t().strides[1];
  for (int i = 4; i < 8; ++i) CHECK(stored[i] == bits[i]);
  for (int i = 0; i < 8; ++i) CHECK((q.get(i) != 1) == (i < 4));
  for (int i = 8; i < 16; ++i) CHECK(q.get(i) == 1);
}

TEST_CASE("make_cos_sin_cache: what is asked for has a size") {
  check_refused("max_pos", {}, [] { reference::make_cos_sin_cache(-1, 8); });
  check_refused("rope_scale", {}, [] { reference::make_cos_sin_cache(4, 8, inf_f32); });
  check_refused("rope_theta", {}, [] { reference::make_cos_sin_cache(4, 8, 1, -1); });
}
