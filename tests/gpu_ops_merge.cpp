// Merging states on the GPU: against the formula in double and the CPU reference, with states that have seen nothing.
#include "gpu/merge/merge_states.hpp"
#include "reference/merge_states.hpp"
#include "tests/gpu_ops_data.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace ops_test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// States (v, s), s between -20 and 20; some have seen nothing: s = -inf, and v stays NaN.
struct States {
  Padded v, s;
  States(DType dtype, std::vector<std::int64_t> shape, std::int64_t pad, std::mt19937& random)
      : v(dtype, shape, pad), s(DType::f32, {shape.begin(), shape.end() - 1}, pad) {
    std::uniform_real_distribution<double> value(-2, 2), lse(-20, 20);
    const std::int64_t dim = shape.back();
    for (std::int64_t i = 0; i < s.size(); ++i) {
      const bool nothing = random() % 5 == 0;
      s.set(i, nothing ? -infinity : lse(random));
      for (std::int64_t x = 0; x < dim && !nothing; ++x) v.set(i * dim + x, value(random));
    }
  }
};

// One output row and head in double, from (states, elements of v begin) in slot order.
struct Exact {
  double lse_log2 = -infinity;
  std::vector<double> o;
};
struct StateAt {
  const States* states;
  std::int64_t index;  // of (row, head) in them
};
Exact exact_merge(const std::vector<StateAt>& states, std::int64_t dim) {
  Exact e{.o = std::vector<double>(dim, 0)};
  double largest = -infinity, sum = 0;
  for (const auto& [of, at] : states) largest = std::max(largest, of->s.get(at));
  if (largest == -infinity) return e;
  for (const auto& [of, at] : states) {
    if (of->s.get(at) == -infinity) continue;
    const double weight = std::exp2(of->s.get(at) - largest);
    sum += weight;
    for (std::int64_t x = 0; x < dim; ++x) e.o[x] += weight * of->v.get(at * dim + x);
  }
  for (double& x : e.o) x /= sum;
  e.lse_log2 = largest + std::log2(sum);
  return e;
}

// A step of the merge: the weight's difference (|a - b| 2^-|a - b| ln 2 u, below u), exp2f good to 2 ulp = 4 u (CUDA Math
// API), two products and a sum, in o and in d alike; o is at most max|v| = 2. Then 1 / d, a product; log2f 1 ulp, a sum.
double o_slack(std::size_t states) { return 2 * (2 * 8.0 * static_cast<double>(states) + 4) * u; }
double lse_slack(std::size_t states) { return (8.0 * static_cast<double>(states) / 0.69 + 4 + 2 * 32) * u; }

// Row r, head h of the results; inputs[r * heads + h] are its states.
void check_merged(const std::vector<std::vector<StateAt>>& inputs, const Padded& v, const Padded& s, const Padded& cpu_v,
                  const Padded& cpu_s) {
  Wrong wrong;
  const std::int64_t dim = v.t().shape[v.t().rank - 1];
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    const Exact e = exact_merge(inputs[i], dim);
    if (e.lse_log2 == -infinity) {
      if (s.get(row) != -infinity) wrong.check(DType::f32, row, NAN, 0, 0, 0);
    } else {
      wrong.check(DType::f32, row, s.get(row), e.lse_log2, lse_slack(inputs[i].size()), cpu_s.get(row));
    }
    for (std::int64_t x = 0; x < dim; ++x) {
      const std::int64_t at = row * dim + x;
      wrong.check(v.t().dtype, at, v.get(at), e.o[x], o_slack(inputs[i].size()), cpu_v.get(at));
    }
  }
  CHECK_MESSAGE(wrong.count() == 0, wrong.first());
  CHECK(v.padding_untouched());
  CHECK(s.padding_untouched());
}

struct MergeCase {
  std::int64_t n = 5, heads = 8, dim = 128, pad = 8;
  DType in = DType::f32, out = DType::f16;
};

void check_pair(const MergeCase& c, std::uint64_t seed) {
  INFO("merge_state n ", c.n, " heads ", c.heads, " dim ", c.dim, " pad ", c.pad, " ", name_of(c.in), "->", name_of(c.out));
  std::mt19937 random(static_cast<unsigned>(seed));
  const std::vector<std::int64_t> shape{c.n, c.heads, c.dim};
  const States a(c.in, shape, c.pad, random), b(c.out, shape, c.pad, random);
  std::vector<std::vector<StateAt>> inputs;
  for (std::int64_t i = 0; i < c.n * c.heads; ++i) inputs.push_back({{&b, i}, {&a, i}});
  Padded v(c.out, shape, c.pad), cpu_v(c.out, shape, c.pad);
  Padded s(DType::f32, {c.n, c.heads}), cpu_s(DType::f32, {c.n, c.heads});
  const OnDevice v_a(a.v), s_a(a.s), v_b(b.v), s_b(b.s), v_out(v), s_out(s);
  gpu::merge_state(v_b.t(), s_b.t(), v_a.t(), s_a.t(), v_out.t(), s_out.t(), nullptr);
  reference::merge_state(b.v.t(), b.s.t(), a.v.t(), a.s.t(), cpu_v.t(), cpu_s.t());
  v_out.fetch(v);
  s_out.fetch(s);
  check_merged(inputs, v, s, cpu_v, cpu_s);
  CHECK((v_out.guards_intact() && s_out.guards_intact()));

  // In place, b takes a in: the same bits, and with a mask the other rows stay as they are.
  std::vector<std::uint8_t> mask(c.n);
  for (auto& m : mask) m = static_cast<std::uint8_t>(random() % 3);
  const DeviceArray<std::uint8_t> device_mask(mask);
  for (const bool masked : {true, false}) {
    const OnDevice v_in_place(b.v), s_in_place(b.s);
    gpu::merge_state_in_place(v_in_place.t(), s_in_place.t(), v_a.t(), s_a.t(),
                              masked ? device_mask.span() : std::span<std::uint8_t>{}, nullptr);
    Padded v_got(c.out, shape, c.pad), s_got(DType::f32, {c.n, c.heads}, c.pad);
    v_in_place.fetch(v_got);
    s_in_place.fetch(s_got);
    std::int64_t wrong = 0;
    const auto differ = [](double x, double y) { return x != y && !(std::isnan(x) && std::isnan(y)); };
    for (std::int64_t i = 0; i < c.n * c.heads; ++i) {
      const bool merged = !masked || mask[i / c.heads] != 0;
      wrong += differ(s_got.get(i), merged ? s.get(i) : b.s.get(i));
      for (std::int64_t x = 0; x < c.dim; ++x) {
        wrong += differ(v_got.get(i * c.dim + x), merged ? v.get(i * c.dim + x) : b.v.get(i * c.dim + x));
      }
    }
    CHECK(wrong == 0);
    CHECK((v_in_place.guards_intact() && s_in_place.guards_intact()));
  }
}

void check_many(const MergeCase& c, std::int64_t num_states, std::uint64_t seed) {
  INFO("merge_states n ", c.n, " states ", num_states, " heads ", c.heads, " dim ", c.dim, " pad ", c.pad, " ",
       name_of(c.in), "->", name_of(c.out));
  std::mt19937 random(static_cast<unsigned>(seed));
  const States states(c.in, {c.n, num_states, c.heads, c.dim}, c.pad, random);
  std::vector<std::vector<StateAt>> inputs(c.n * c.heads);
  for (std::int64_t i = 0; i < c.n * c.heads; ++i) {
    const std::int64_t row = i / c.heads, head = i % c.heads;
    for (std::int64_t k = 0; k < num_states; ++k) inputs[i].push_back({&states, (row * num_states + k) * c.heads + head});
  }
  Padded v(c.out, {c.n, c.heads, c.dim}, c.pad), cpu_v(c.out, {c.n, c.heads, c.dim}, c.pad);
  Padded s(DType::f32, {c.n, c.heads}), cpu_s(DType::f32, {c.n, c.heads});
  const OnDevice v_in(states.v), s_in(states.s), v_out(v), s_out(s);
  gpu::merge_states(v_in.t(), s_in.t(), v_out.t(), s_out.t(), nullptr);
  reference::merge_states(states.v.t(), states.s.t(), cpu_v.t(), cpu_s.t());
  v_out.fetch(v);
  s_out.fetch(s);
  check_merged(inputs, v, s, cpu_v, cpu_s);

  // A factor of 2 is exact, and concerns s_out alone.
  gpu::merge_states(v_in.t(), s_in.t(), v_out.t(), s_out.t(), nullptr, false, 2.0f);
  Padded same_v(c.out, {c.n, c.heads, c.dim}, c.pad), twice_s(DType::f32, {c.n, c.heads});
  v_out.fetch(same_v);
  s_out.fetch(twice_s);
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < c.n * c.heads; ++i) wrong += twice_s.get(i) != 2 * s.get(i);
  for (std::int64_t i = 0; i < c.n * c.heads * c.dim; ++i) wrong += same_v.get(i) != v.get(i);
  CHECK(wrong == 0);
  CHECK((v_out.guards_intact() && s_out.guards_intact()));
}

void check_variable(const MergeCase& c, int most_states, std::uint64_t seed) {
  INFO("variable_length_merge_states n ", c.n, " up to ", most_states, " heads ", c.heads, " dim ", c.dim, " pad ", c.pad);
  std::mt19937 random(static_cast<unsigned>(seed));
  std::vector<std::int32_t> indptr{0};
  for (std::int64_t r = 0; r < c.n; ++r) {
    const auto most = static_cast<unsigned>(random() % 3 == 0 ? 1 : most_states);
    indptr.push_back(indptr.back() + static_cast<std::int32_t>(random() % (most + 1)));
  }
  const States states(c.in, {indptr.back(), c.heads, c.dim}, c.pad, random);
  std::vector<std::vector<StateAt>> inputs(c.n * c.heads);
  for (std::int64_t r = 0; r < c.n; ++r) {
    for (std::int64_t h = 0; h < c.heads; ++h) {
      for (std::int64_t k = indptr[r]; k < indptr[r + 1]; ++k) inputs[r * c.heads + h].push_back({&states, k * c.heads + h});
    }
  }
  Padded v(c.out, {c.n, c.heads, c.dim}, c.pad), cpu_v(c.out, {c.n, c.heads, c.dim}, c.pad);
  Padded s(DType::f32, {c.n, c.heads}), cpu_s(DType::f32, {c.n, c.heads});
  const OnDevice v_in(states.v), s_in(states.s), v_out(v), s_out(s);
  const DeviceArray<std::int32_t> device_indptr(indptr);
  gpu::variable_length_merge_states(v_in.t(), s_in.t(), device_indptr.span(), v_out.t(), s_out.t(), nullptr);
  reference::variable_length_merge_states(states.v.t(), states.s.t(), indptr, cpu_v.t(), cpu_s.t());
  v_out.fetch(v);
  s_out.fetch(s);
  check_merged(inputs, v, s, cpu_v, cpu_s);
  CHECK((v_out.guards_intact() && s_out.guards_intact()));
}

}  // namespace

TEST_CASE("merge_state on the GPU: two states and in place and masked") {
  for (const DType in : all_dtypes) {
    for (const DType out : all_dtypes) {
      check_pair({.in = in, .out = out}, 1);
      check_pair({.n = 3, .heads = 5, .dim = 33, .pad = 3, .in = in, .out = out}, 2);
    }
  }
  check_pair({.n = 0}, 3);
  check_pair({.n = 700, .heads = 32}, 4);
  check_pair({.n = 2, .heads = 300, .dim = 64}, 5);
  check_pair({.n = 2, .heads = 3, .dim = 512}, 6);
  check_pair({.n = 2, .heads = 2, .dim = 1500, .pad = 0}, 7);
  check_pair({.n = 2, .heads = 2, .dim = 301}, 8);
}

TEST_CASE("merge_states on the GPU: any number of states") {
  for (const DType in : all_dtypes) {
    for (const std::int64_t states : {0, 1, 2, 3, 5, 16, 67}) check_many({.in = in, .out = DType::bf16}, states, 1);
    check_many({.n = 3, .heads = 5, .dim = 33, .pad = 3, .in = in, .out = in}, 9, 2);
  }
  check_many({.n = 0}, 4, 3);
  check_many({.n = 1, .heads = 1, .dim = 256}, 300, 4);
  check_many({.n = 1, .heads = 32}, 264, 5);
  check_many({.n = 1500, .heads = 8}, 4, 6);
  check_many({.n = 2, .heads = 2, .dim = 1100, .out = DType::f32}, 40, 7);
}

TEST_CASE("variable_length_merge_states on the GPU: rows without states and with many") {
  for (const DType in : all_dtypes) {
    for (const int most : {1, 3, 40}) check_variable({.n = 23, .in = in}, most, 1);
    check_variable({.n = 7, .heads = 3, .dim = 50, .pad = 1, .in = in, .out = DType::f32}, 20, 2);
  }
  check_variable({.n = 0}, 4, 3);
  check_variable({.n = 900, .heads = 8, .dim = 64}, 5, 4);
}

TEST_CASE("merge_states on the GPU merges the first rows, as many as a number on the device says") {
  std::mt19937 random(1);
  constexpr std::int64_t n = 40, heads = 3, dim = 64;
  const States states(DType::f32, {n, 2, heads, dim}, 0, random);
  Padded all(DType::f16, {n, heads, dim}), all_s(DType::f32, {n, heads});
  const OnDevice v_in(states.v), s_in(states.s), v_all(all), s_all(all_s);
  gpu::merge_states(v_in.t(), s_in.t(), v_all.t(), s_all.t(), nullptr);
  v_all.fetch(all), s_all.fetch(all_s);
  for (const std::int32_t rows : {0, 1, 39, 40, 41}) {
    const DeviceArray<std::int32_t> count(std::vector<std::int32_t>{rows});
    Padded v(DType::f16, {n, heads, dim}), s(DType::f32, {n, heads});
    const OnDevice v_out(v), s_out(s);
    gpu::merge_states(v_in.t(), s_in.t(), v_out.t(), s_out.t(), nullptr, false, 1, count.span().data());
    v_out.fetch(v), s_out.fetch(s);
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < n * heads * dim; ++i) {  // rows behind those stay the NaN that they were
      if (i < rows * heads * dim) wrong += v.get(i) != all.get(i) || s.get(i / dim) != all_s.get(i / dim);
      else wrong += !std::isnan(v.get(i)) || !std::isnan(s.get(i / dim));
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("merges on the GPU: states of any lse") {
  constexpr double nan = NAN;
  struct State {
    double v, s;
  };
  const State all[] = {{0, infinity}, {2, 3},   {2, infinity}, {nan, -infinity},
                       {7, -infinity}, {7, nan}, {nan, 1},      {infinity, 1}};
  constexpr std::int64_t kinds = std::size(all), n = kinds * kinds, dim = 8;
  Padded v_a(DType::f32, {n, 1, dim}), s_a(DType::f32, {n, 1}), v_b(DType::f32, {n, 1, dim}), s_b(DType::f32, {n, 1});
  Padded both(DType::f32, {n, 2, 1, dim}), both_s(DType::f32, {n, 2, 1});
  for (std::int64_t i = 0; i < n; ++i) {  // every pair
    const State a = all[i / kinds], b = all[i % kinds];
    s_a.set(i, a.s), s_b.set(i, b.s), both_s.set(2 * i, a.s), both_s.set(2 * i + 1, b.s);
    for (std::int64_t x = 0; x < dim; ++x) {
      v_a.set(i * dim + x, a.v), v_b.set(i * dim + x, b.v);
      both.set((2 * i) * dim + x, a.v), both.set((2 * i + 1) * dim + x, b.v);
    }
  }
  Padded v(DType::f32, {n, 1, dim}), s(DType::f32, {n, 1}), cpu_v(DType::f32, {n, 1, dim}), cpu_s(DType::f32, {n, 1});
  reference::merge_state(v_a.t(), s_a.t(), v_b.t(), s_b.t(), cpu_v.t(), cpu_s.t());
  const auto check = [&](const OnDevice& v_out, const OnDevice& s_out) {
    v_out.fetch(v);
    s_out.fetch(s);
    const auto same = [](double x, double y) { return std::isnan(y) ? std::isnan(x) : x == y || std::abs(x - y) <= 8 * u; };
    for (std::int64_t i = 0; i < n; ++i) {
      INFO("states ", i / kinds, " and ", i % kinds);
      CHECK(same(s.get(i), cpu_s.get(i)));
      for (std::int64_t x = 0; x < dim; ++x) CHECK(same(v.get(i * dim + x), cpu_v.get(i * dim + x)));
    }
  };
  const OnDevice va(v_a), sa(s_a), vb(v_b), sb(s_b), vs(both), ss(both_s), v_out(v), s_out(s);
  gpu::merge_state(va.t(), sa.t(), vb.t(), sb.t(), v_out.t(), s_out.t(), nullptr);
  check(v_out, s_out);
  gpu::merge_states(vs.t(), ss.t(), v_out.t(), s_out.t(), nullptr);
  check(v_out, s_out);
  gpu::merge_state_in_place(va.t(), sa.t(), vb.t(), sb.t(), {}, nullptr);
  check(va, sa);
}

TEST_CASE("merges on the GPU: random cases") {
  const int cases = test::options().cases_or(40);
  MESSAGE("--seed ", test::options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t seed = test::options().seed + i;
    std::mt19937 random(static_cast<unsigned>(seed));
    const auto any = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    const MergeCase c{.n = any(0, 20), .heads = any(1, 9), .dim = any(0, 1) == 0 ? any(1, 300) : 4 * any(1, 64),
                      .pad = any(0, 1) == 0 ? 8 : any(0, 9), .in = all_dtypes[any(0, 2)], .out = all_dtypes[any(0, 2)]};
    check_pair(c, seed);
    check_many(c, any(0, 50), seed);
    check_variable(c, any(1, 50), seed);
  }
}
