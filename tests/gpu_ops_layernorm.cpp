// LayerNorm on the GPU: every element is the exact answer rounded once, on rows where shortcuts fail too, and the CPU
// reference's neighbour at most.
#include "gpu/norm/layernorm.hpp"
#include "reference/layernorm.hpp"
#include "tests/gpu_ops_data.hpp"
#include "tests/layernorm_exact.hpp"
#include "tests/norm_extreme.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace ops_test;

namespace {

struct LayerNormCase {
  std::int64_t n, heads, d;  // heads 0: [n, d]
  std::int64_t pad = 8;      // 8 keeps rows aligned to 16 bytes, 0 makes heads one flat array, 3 does neither
  bool in_place = false;
};

void check_layernorm_case(DType dtype, DType weights, const LayerNormCase& c, std::uint64_t seed) {
  INFO("layernorm ", name_of(dtype), " weights ", name_of(weights), " n ", c.n, " heads ", c.heads, " d ", c.d, " pad ", c.pad,
       " in place ", c.in_place, " seed ", seed);
  std::mt19937 random(static_cast<unsigned>(seed));
  const std::vector<std::int64_t> shape = c.heads == 0 ? std::vector{c.n, c.d} : std::vector{c.n, c.heads, c.d};
  Padded x(dtype, shape, c.pad), gamma(weights, {c.d}, c.pad), beta(weights, {c.d}, c.pad), cpu(dtype, shape, c.pad);
  fill_hard_rows(x, c.d, random);
  gamma.fill(random, -2, 2), beta.fill(random, -1, 1);
  reference::layernorm(x.t(), gamma.t(), beta.t(), cpu.t(), 1e-5f);
  Padded got(dtype, shape, c.pad);
  const OnDevice input(x), g(gamma), b(beta), output(got);
  const OnDevice& out = c.in_place ? input : output;
  gpu::layernorm(input.t(), g.t(), b.t(), out.t(), 1e-5f, nullptr);
  out.fetch(got);
  const LayerNormRows rows(x, gamma, beta, 1e-5f);
  rows.check(dtype, got, chain_of(c.d));
  Wrong far;  // from the CPU's
  for (std::int64_t row = 0; row * c.d < x.size(); ++row) {
    const LayerNormRows::Moments m = rows.moments(row);
    for (std::int64_t at = row * c.d; at < (row + 1) * c.d; ++at) {
      far.check(dtype, at, got.get(at), rows.exact(m, at), rows.slack(m, at, chain_of(c.d)), cpu.get(at));
    }
  }
  CHECK_MESSAGE(far.count() == 0, far.first());
  CHECK(got.padding_untouched());
  CHECK(out.guards_intact());
  if (!c.in_place) CHECK(input.bytes() == x.bytes());
}

// Parts of a warp with one to four pieces a lane, blocks, and rows that are read again; last blocks that are cut off.
const LayerNormCase layernorm_shapes[] = {
    {1, 0, 1}, {5, 0, 7, 3}, {5, 0, 8}, {6, 0, 64, 3}, {9, 0, 111, 1}, {9, 0, 504}, {5, 0, 128}, {67, 0, 128}, {33, 0, 192},
    {5, 0, 512}, {40, 0, 576}, {5, 0, 768}, {7, 0, 1024}, {19, 0, 3584}, {64, 0, 4096}, {5, 0, 4096, 3}, {5, 0, 8192},
    {5, 0, 16384}, {5, 0, 16392}, {5, 0, 65536}, {5, 0, 20000, 5}, {0, 0, 128}, {0, 4, 64}, {7, 5, 128}, {7, 5, 128, 0},
    {3, 16, 64}, {3, 0, 64, 0}, {4, 3, 65, 2}, {2, 7, 512}, {3, 2, 4096}, {11, 4, 96, 0}, {9001, 0, 128}, {2003, 0, 256},
    {903, 0, 512}, {701, 0, 1000}, {301, 0, 2048}, {301, 0, 5120}, {61, 0, 16376}};

}  // namespace

TEST_CASE("layernorm on the GPU: equals the exact answer rounded once and the CPU reference") {
  for (const DType dtype : gpu_dtypes) {
    for (LayerNormCase c : layernorm_shapes) {
      check_layernorm_case(dtype, DType::f32, c, 1);
      c.in_place = true;
      check_layernorm_case(dtype, dtype, c, 2);
    }
  }
}

TEST_CASE("layernorm on the GPU: rows of any numbers equal long double, and what has no mean is NaN in its own row only") {
  for (const DType dtype : gpu_dtypes) {
    for (const ExtremeRow& row : extreme_rows(dtype)) {
      for (const auto& [d, pad] : {std::pair{8, 8}, {64, 8}, {264, 8}, {520, 8}, {1032, 8}, {4096, 8}, {16384, 8},
                                   {16392, 8}, {61, 3}, {1, 1}}) {
        INFO(name_of(dtype), " ", row.what, " d ", d);
        const ExtremeRows rows(dtype, row, d, pad);
        Padded beta(dtype, {d}, pad), got(dtype, {3, d}, pad);
        for (int i = 0; i < d; ++i) beta.set(i, i % 3 - 1);
        const OnDevice x(rows.x), gamma(rows.weight), b(beta), out(got);
        gpu::layernorm(x.t(), gamma.t(), b.t(), out.t(), row.eps, nullptr);
        out.fetch(got);
        LayerNormRows(rows.x, rows.weight, beta, row.eps).check(dtype, got, chain_of(d));
      }
    }
  }
}

TEST_CASE("layernorm on the GPU: a row of equal elements is beta in every bit, with eps = 0 too") {
  for (const DType dtype : gpu_dtypes) {
    for (const auto& [d, pad] : {std::pair{24, 8}, {520, 8}, {4096, 8}, {5000, 8}, {16392, 8}, {61, 3}}) {
      for (const float eps : {0.0f, 1e-6f}) {
        INFO(name_of(dtype), " d ", d, " eps ", eps);
        std::mt19937 random(3);
        Padded x(dtype, {4, d}, pad), gamma(dtype, {d}, pad), beta(dtype, {d}, pad), got(dtype, {4, d}, pad);
        gamma.fill(random, -2, 2), beta.fill(random, -2, 2);
        const double equal[] = {3.3, -1000.7, 0, 6e-8};
        for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, equal[i / d]);
        const OnDevice input(x), g(gamma), b(beta);
        gpu::layernorm(input.t(), g.t(), b.t(), input.t(), eps, nullptr);
        input.fetch(got);
        std::int64_t wrong = 0;
        for (std::int64_t i = 0; i < x.size(); ++i) wrong += !(got.get(i) == beta.get(i % d));
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("layernorm on the GPU: random shapes") {
  const int cases = test::options().cases_or(60);
  MESSAGE("--seed ", test::options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t seed = test::options().seed + i;
    std::mt19937 random(static_cast<unsigned>(seed));
    const auto any = [&](std::int64_t low, std::int64_t high) {
      return std::uniform_int_distribution<std::int64_t>(low, high)(random);
    };
    LayerNormCase c{.n = any(0, 40), .heads = any(0, 3), .d = any(1, 4) == 1 ? any(1, 3000) : 8 * any(1, 700),
                    .pad = std::int64_t{any(0, 2)} * 8, .in_place = any(0, 1) == 1};
    if (any(0, 3) == 0) c.pad = any(0, 9);
    const DType dtype = any(0, 1) == 0 ? DType::f16 : DType::bf16;
    check_layernorm_case(dtype, any(0, 1) == 0 ? DType::f32 : dtype, c, seed);
  }
}
