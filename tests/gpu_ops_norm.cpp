// RMSNorm on the GPU: every element is the exact answer rounded once, and the CPU reference's neighbour at most.
#include "gpu/norm/norm.hpp"
#include "reference/norm.hpp"
#include "tests/gpu_norm_data.hpp"
#include "tests/norm_extreme.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace ops_test;

namespace {

// sums[i] is what row element i is normalised from (float already), added what is added to the weight (one more rounding).
void check_rows(DType dtype, const NormCase& c, const std::vector<double>& sums, const Padded& weight, double added,
                double eps, const Padded& got, const Padded& cpu) {
  Wrong wrong;
  for (std::int64_t row = 0; row * c.d < got.size(); ++row) {
    double squares = 0;
    for (std::int64_t i = 0; i < c.d; ++i) squares += sums[row * c.d + i] * sums[row * c.d + i];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(c.d) + eps);
    for (std::int64_t i = 0; i < c.d; ++i) {
      const std::int64_t at = row * c.d + i;
      const double exact = sums[at] * scale * (added + weight.get(i));
      wrong.check(dtype, at, got.get(at), exact, (norm_slack(c.d) + added * u) * std::abs(exact), cpu.get(at));
    }
  }
  CHECK_MESSAGE(wrong.count() == 0, wrong.first());
}

void check_rmsnorm_case(DType dtype, const NormCase& c, std::uint64_t seed, bool gemma) {
  INFO((gemma ? "gemma_rmsnorm " : "rmsnorm "), name_of(dtype), " n ", c.n, " heads ", c.heads, " d ", c.d, " pad ", c.pad, " in place ", c.in_place,
       " seed ", seed);
  std::mt19937 random(static_cast<unsigned>(seed));
  Padded x(dtype, shape_of(c), c.pad), weight(dtype, {c.d}, c.pad), cpu(dtype, shape_of(c), c.pad);
  x.fill(random, -3, 3);
  weight.fill(random, -2, 2);
  (gemma ? reference::gemma_rmsnorm : reference::rmsnorm)(x.t(), weight.t(), cpu.t(), 1e-5f);
  Padded got(dtype, shape_of(c), c.pad);
  const OnDevice input(x), w(weight), output(got);
  const OnDevice& out = c.in_place ? input : output;
  (gemma ? gpu::gemma_rmsnorm : gpu::rmsnorm)(input.t(), w.t(), out.t(), 1e-5f, nullptr, false);
  out.fetch(got);
  std::vector<double> sums(x.size());
  for (std::int64_t i = 0; i < x.size(); ++i) sums[i] = x.get(i);
  check_rows(dtype, c, sums, weight, gemma ? 1 : 0, static_cast<double>(1e-5f), got, cpu);
  CHECK(got.padding_untouched());
  CHECK(out.guards_intact());
  if (!c.in_place) CHECK(input.bytes() == x.bytes());
}

void check_fused_case(DType dtype, const NormCase& c, std::uint64_t seed, bool gemma) {
  INFO((gemma ? "gemma_fused_add_rmsnorm " : "fused_add_rmsnorm "), name_of(dtype), " n ", c.n, " d ", c.d, " pad ", c.pad, " seed ", seed);
  std::mt19937 random(static_cast<unsigned>(seed));
  Padded x(dtype, {c.n, c.d}, c.pad), residual(dtype, {c.n, c.d}, 2 * c.pad), weight(dtype, {c.d}, c.pad);
  x.fill(random, 0.5, 2);
  residual.fill(random, -0.25, 0.25);  // most sums are not numbers of the dtype: rounding first would be seen
  weight.fill(random, 0.5, 2);
  std::vector<double> sums(x.size());
  for (std::int64_t i = 0; i < x.size(); ++i) sums[i] = static_cast<float>(x.get(i)) + static_cast<float>(residual.get(i));
  const OnDevice input(x), other(residual), w(weight);
  (gemma ? gpu::gemma_fused_add_rmsnorm : gpu::fused_add_rmsnorm)(input.t(), other.t(), w.t(), 1e-6f, nullptr, false);
  (gemma ? reference::gemma_fused_add_rmsnorm : reference::fused_add_rmsnorm)(x.t(), residual.t(), weight.t(), 1e-6f);
  Padded got(dtype, {c.n, c.d}, c.pad), got_residual(dtype, {c.n, c.d}, 2 * c.pad);
  input.fetch(got);
  other.fetch(got_residual);
  check_rows(dtype, c, sums, weight, gemma ? 1 : 0, static_cast<double>(1e-6f), got, x);
  CHECK(got_residual.bytes() == residual.bytes());  // one addition and one rounding: bit for bit
  CHECK(got.padding_untouched());
  CHECK(input.guards_intact());
  CHECK(other.guards_intact());
}

}  // namespace

TEST_CASE("rmsnorm on the GPU: equals the exact answer rounded once and the CPU reference") {
  for (const DType dtype : gpu_dtypes) {
    for (NormCase c : norm_shapes) {
      check_rmsnorm_case(dtype, c, 1, false);
      c.in_place = true;
      check_rmsnorm_case(dtype, c, 2, true);
    }
  }
  for (const NormCase& c : big) {
    for (const bool gemma : {false, true}) check_rmsnorm_case(c.d % 3 == 0 ? DType::f16 : DType::bf16, c, 3, gemma);
  }
}

TEST_CASE("fused_add_rmsnorm on the GPU: the residual is rounded and the norm takes the sum that was not") {
  for (const DType dtype : gpu_dtypes) {
    for (const NormCase& c : norm_shapes) {
      for (const bool gemma : {false, true}) {
        if (c.heads == 0) check_fused_case(dtype, c, 4, gemma);
      }
    }
  }
  for (const NormCase& c : big) {
    if (c.heads == 0) check_fused_case(c.d % 3 == 0 ? DType::bf16 : DType::f16, c, 5, c.d % 2 == 0);
  }
}

// Every kind of group: parts of a warp, warps, blocks, with one to four pieces a lane, and rows that are read twice.
TEST_CASE("norms on the GPU: rows of any numbers equal long double") {
  for (const DType dtype : gpu_dtypes) {
    for (const ExtremeRow& row : extreme_rows(dtype)) {
      for (const auto& [d, pad] : {std::pair{8, 8}, {64, 8}, {264, 8}, {520, 8}, {1032, 8}, {4096, 8}, {16384, 8},
                                   {16392, 8}, {61, 3}, {1, 1}}) {
        INFO(name_of(dtype), " ", row.what, " d ", d);
        const ExtremeRows rows(dtype, row, d, pad);
        Padded got(dtype, {3, d}, pad), got_residual(dtype, {3, d}, pad), sums(DType::f32, {3, d});
        const OnDevice x(rows.x), w(rows.weight), out(got);
        gpu::rmsnorm(x.t(), w.t(), out.t(), row.eps, nullptr);
        out.fetch(got);
        rows.check(rows.x, got);
        Padded half(dtype, {3, d}, pad), rounded_sums(dtype, {3, d}, pad);
        for (std::int64_t i = 0; i < 3 * d; ++i) {
          half.set(i, rows.x.get(i) / 2);
          sums.set(i, static_cast<float>(rows.x.get(i)) + static_cast<float>(half.get(i)));
          rounded_sums.set(i, sums.get(i));
        }
        const OnDevice input(rows.x), residual(half);
        gpu::fused_add_rmsnorm(input.t(), residual.t(), w.t(), row.eps, nullptr);
        input.fetch(got);
        residual.fetch(got_residual);
        rows.check(sums, got);
        std::int64_t wrong = 0;  // any NaN is as good as another
        for (std::int64_t i = 0; i < 3 * d; ++i) {
          const double a = got_residual.get(i), b = rounded_sums.get(i);
          wrong += a != b && !(std::isnan(a) && std::isnan(b));
        }
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("norms on the GPU: a weight of -0 keeps its sign, and with Gemma's it is one") {
  for (const auto& [d, pad] : {std::pair{64, 8}, {4096, 8}, {61, 3}}) {
    Padded x(DType::bf16, {2, d}, pad), weight(DType::bf16, {d}, pad), got(DType::bf16, {2, d}, pad);
    for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, 1);
    for (int i = 0; i < d; ++i) weight.set(i, i % 2 == 0 ? -0.0 : 0.0);
    const OnDevice input(x), w(weight), out(got);
    gpu::rmsnorm(input.t(), w.t(), out.t(), 0, nullptr);
    out.fetch(got);
    int wrong = 0;
    for (std::int64_t i = 0; i < x.size(); ++i) wrong += got.get(i) != 0 || std::signbit(got.get(i)) != (i % d % 2 == 0);
    CHECK(wrong == 0);
    gpu::gemma_rmsnorm(input.t(), w.t(), out.t(), 0, nullptr);
    out.fetch(got);
    for (std::int64_t i = 0; i < x.size(); ++i) wrong += got.get(i) != 1;
    CHECK(wrong == 0);
  }
}

TEST_CASE("norms on the GPU: random shapes") {
  const int cases = test::options().cases_or(100);
  MESSAGE("--seed ", test::options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t seed = test::options().seed + i;
    std::mt19937 random(static_cast<unsigned>(seed));
    const auto any = [&](std::int64_t low, std::int64_t high) {
      return std::uniform_int_distribution<std::int64_t>(low, high)(random);
    };
    NormCase c{.n = any(0, 40), .heads = any(0, 3), .d = any(1, 4) == 1 ? any(1, 3000) : 8 * any(1, 700),
               .pad = std::int64_t{any(0, 2)} * 8, .in_place = any(0, 1) == 1};
    if (any(0, 3) == 0) c.pad = any(0, 9);
    const DType dtype = any(0, 1) == 0 ? DType::f16 : DType::bf16;
    const bool gemma = any(0, 2) == 0;
    check_rmsnorm_case(dtype, c, seed, gemma);
    if (c.heads == 0) check_fused_case(dtype, c, seed, gemma);
  }
}
