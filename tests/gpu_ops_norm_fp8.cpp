// RMSNorm and LayerNorm to fp8 on the GPU: every element is the exact norm over its scale, rounded once, and the residual the
// CPU's to the bit.
#include "gpu/norm/layernorm.hpp"
#include "gpu/norm/norm.hpp"
#include "reference/norm.hpp"
#include "tests/gpu_norm_data.hpp"
#include "tests/layernorm_exact.hpp"
#include "tests/norm_extreme.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace ops_test;

namespace fp8_norm {
namespace {

constexpr DType fp8_dtypes[] = {DType::f8_e4m3, DType::f8_e5m2};

double quantised(DType dtype, double x) {
  const auto y = static_cast<float>(x);
  return dtype == DType::f8_e4m3 ? static_cast<float>(Float8E4M3(y)) : static_cast<float>(Float8E5M2(y));
}

// The first element that is wrong, and how many are; "" if none.
class Differences {
 public:
  void add(std::int64_t i, double got, double low, double high) {
    if (count_++ > 0) return;
    first_ = "element " + std::to_string(i) + ": " + std::to_string(got) + ", expected " + std::to_string(low) + " .. " +
             std::to_string(high);
  }
  std::string text() const { return count_ == 0 ? "" : std::to_string(count_) + " elements, the first is " + first_; }

 private:
  std::int64_t count_ = 0;
  std::string first_;
};

// A scale, by its number or on the device.
struct Scale {
  float value;
  bool is_stored;
  DeviceArray<float> memory{std::vector<float>(1, value)};
  QuantScale on_device() const {
    return is_stored ? QuantScale{.stored = memory.span().data()} : QuantScale{.number = value};
  }
};

// sums[i] is what row element i is normalised from. Besides what rmsnorm loses, a norm is divided by the scale.
std::string wrong_rows(const NormCase& c, const std::vector<double>& sums, const Padded& weight, double eps, float scale,
                       const Padded& got) {
  Differences wrong;
  const DType dtype = got.t().dtype;
  for (std::int64_t row = 0; row * c.d < got.size(); ++row) {
    double squares = 0;
    for (std::int64_t i = 0; i < c.d; ++i) squares += sums[row * c.d + i] * sums[row * c.d + i];
    const double norm = 1 / std::sqrt(squares / static_cast<double>(c.d) + eps);
    for (std::int64_t i = 0; i < c.d; ++i) {
      const std::int64_t at = row * c.d + i;
      const double exact = sums[at] * norm * weight.get(i) / double{scale};
      const double slack = (norm_slack(c.d) + 2 * u) * std::abs(exact);
      const double low = quantised(dtype, exact - slack), high = quantised(dtype, exact + slack), y = got.get(at);
      if (!(y >= low && y <= high)) wrong.add(at, y, low, high);
    }
  }
  return wrong.text();
}

void check_case(DType in, DType to, const NormCase& c, bool add, const Scale& scale, std::uint64_t seed) {
  INFO((add ? "fused_add_rmsnorm_quant " : "rmsnorm_quant "), name_of(in), " to ", name_of(to), " n ", c.n, " heads ", c.heads,
       " d ", c.d, " pad ", c.pad, " scale ", scale.value, scale.is_stored ? " stored" : "", " seed ", seed);
  std::mt19937 random(static_cast<unsigned>(seed));
  Padded x(in, shape_of(c), c.pad), residual(in, shape_of(c), 2 * c.pad), weight(in, {c.d}, c.pad);
  Padded got(to, shape_of(c), c.pad);
  x.fill(random, -3, 3);
  residual.fill(random, -0.25, 0.25);  // most sums are not numbers of the dtype: rounding first would be seen
  weight.fill(random, -2, 2);
  std::vector<double> sums;
  for (std::int64_t i = 0; i < x.size(); ++i) {
    sums.push_back(add ? static_cast<float>(x.get(i)) + static_cast<float>(residual.get(i)) : x.get(i));
  }
  const OnDevice input(x), other(residual), w(weight), out(got);
  if (add) {
    gpu::fused_add_rmsnorm_quant(input.t(), other.t(), w.t(), out.t(), scale.on_device(), 1e-5f, nullptr);
    Padded cpu(to, shape_of(c), c.pad);
    reference::fused_add_rmsnorm_quant(x.t(), residual.t(), weight.t(), cpu.t(), {.number = scale.value}, 1e-5f);
  } else {
    gpu::rmsnorm_quant(input.t(), w.t(), out.t(), scale.on_device(), 1e-5f, nullptr);
  }
  out.fetch(got);
  CHECK(wrong_rows(c, sums, weight, static_cast<double>(1e-5f), scale.value, got) == "");
  CHECK(got.padding_untouched());
  CHECK(other.bytes() == residual.bytes());  // one addition and one rounding: bit for bit
  CHECK(input.bytes() == x.bytes());
  CHECK((out.guards_intact() && other.guards_intact()));
}

// weights: the dtype of gamma and beta.
void check_layernorm(DType in, DType to, DType weights, const NormCase& c, const Scale& scale, std::uint64_t seed) {
  INFO("layernorm_quant ", name_of(in), " to ", name_of(to), " weights ", name_of(weights), " n ", c.n, " heads ", c.heads,
       " d ", c.d, " pad ", c.pad, " scale ", scale.value, scale.is_stored ? " stored" : "", " seed ", seed);
  std::mt19937 random(static_cast<unsigned>(seed));
  Padded x(in, shape_of(c), c.pad), gamma(weights, {c.d}, c.pad), beta(weights, {c.d}, c.pad), got(to, shape_of(c), c.pad);
  fill_hard_rows(x, c.d, random);
  gamma.fill(random, -2, 2), beta.fill(random, -1, 1);
  const OnDevice input(x), g(gamma), b(beta), out(got);
  gpu::layernorm_quant(input.t(), g.t(), b.t(), out.t(), scale.on_device(), 1e-5f, nullptr);
  out.fetch(got);
  const LayerNormRows rows(x, gamma, beta, 1e-5f);
  Differences wrong;
  for (std::int64_t row = 0; row * c.d < got.size(); ++row) {
    const LayerNormRows::Moments m = rows.moments(row);
    for (std::int64_t at = row * c.d; at < (row + 1) * c.d; ++at) {
      const double exact = rows.exact(m, at), slack = rows.slack(m, at, chain_of(c.d)) + 2 * u * std::abs(exact);
      const double low = quantised(to, (exact - slack) / double{scale.value});
      const double high = quantised(to, (exact + slack) / double{scale.value}), y = got.get(at);
      if (!(y >= low && y <= high)) wrong.add(at, y, low, high);
    }
  }
  CHECK(wrong.text() == "");
  CHECK(got.padding_untouched());
  CHECK(input.bytes() == x.bytes());
  CHECK(out.guards_intact());
}

}  // namespace

TEST_CASE("layernorm to fp8 on the GPU: the exact norm over its scale, rounded once") {
  const Scale scales[] = {{.value = 0.017f, .is_stored = false}, {.value = 0.25f, .is_stored = true}};
  for (const DType to : fp8_dtypes) {
    for (const DType in : gpu_dtypes) {
      for (const NormCase& c : norm_shapes) {
        check_layernorm(in, to, DType::f32, c, scales[0], 5);
        check_layernorm(in, to, in, c, scales[1], 6);
      }
    }
  }
  for (const NormCase& c : big) {
    check_layernorm(c.d % 3 == 0 ? DType::f16 : DType::bf16, fp8_dtypes[c.d / 8 % 2], DType::f32, c, scales[1], 7);
  }
}

TEST_CASE("norms to fp8 on the GPU: the exact norm over its scale, rounded once") {
  const Scale scales[] = {{.value = 0.017f, .is_stored = false}, {.value = 0.25f, .is_stored = true},
                          {.value = 1e-4f, .is_stored = true}};  // with the last most saturate in E4M3
  for (const DType to : fp8_dtypes) {
    for (const DType in : gpu_dtypes) {
      for (const NormCase& c : norm_shapes) {
        for (const Scale& scale : scales) {
          check_case(in, to, c, false, scale, 1);
          if (c.heads == 0) check_case(in, to, c, true, scale, 2);
        }
      }
    }
  }
  for (const NormCase& c : big) {
    check_case(c.d % 3 == 0 ? DType::f16 : DType::bf16, fp8_dtypes[c.d / 8 % 2], c, false, scales[0], 3);
    if (c.heads == 0) check_case(c.d % 3 == 0 ? DType::bf16 : DType::f16, fp8_dtypes[c.d / 8 % 2], c, true, scales[1], 4);
  }
}

// Rows of zeros, infinities, NaN and of numbers whose squares leave float's range: at most the CPU's neighbour, and NaN is
// 0x7f. (Which of two neighbours, the test above says.)
TEST_CASE("norms to fp8 on the GPU: rows of any numbers are those of the CPU") {
  for (const DType to : fp8_dtypes) {
    for (const DType in : gpu_dtypes) {
      for (const ExtremeRow& row : extreme_rows(in)) {
        for (const auto& [d, pad] : {std::pair{8, 8}, {264, 8}, {1032, 8}, {4096, 8}, {16384, 8}, {16392, 8}, {61, 3}}) {
          for (const bool add : {false, true}) {
            INFO(name_of(in), " to ", name_of(to), " ", row.what, " d ", d, " add ", add);
            const ExtremeRows rows(in, row, d, pad);
            Padded residual(in, {3, d}, pad), cpu(to, {3, d}, pad), got(to, {3, d}, pad);
            for (std::int64_t i = 0; i < 3 * d; ++i) residual.set(i, rows.x.get(i) / 2);
            const OnDevice x(rows.x), other(residual), w(rows.weight), out(got);
            if (add) {
              gpu::fused_add_rmsnorm_quant(x.t(), other.t(), w.t(), out.t(), {.number = 0.01f}, row.eps, nullptr);
              reference::fused_add_rmsnorm_quant(rows.x.t(), residual.t(), rows.weight.t(), cpu.t(), {.number = 0.01f},
                                                 row.eps);
            } else {
              gpu::rmsnorm_quant(x.t(), w.t(), out.t(), {.number = 0.01f}, row.eps, nullptr);
              reference::rmsnorm_quant(rows.x.t(), rows.weight.t(), cpu.t(), {.number = 0.01f}, row.eps);
            }
            out.fetch(got);
            Differences wrong;
            for (std::size_t i = 0; i < got.bytes().size(); ++i) {
              const int a = got.bytes()[i], b = cpu.bytes()[i];
              const bool is_nan = (b & 0x7f) == 0x7f;
              if (is_nan ? a != b : std::abs(a - b) > 1 || (a & 0x80) != (b & 0x80)) {
                wrong.add(static_cast<std::int64_t>(i), a, b, b);
              }
            }
            CHECK(wrong.text() == "");
            CHECK(out.guards_intact());
          }
        }
      }
    }
  }
}

TEST_CASE("norms to fp8 on the GPU: random shapes") {
  const int cases = test::options().cases_or(100);
  MESSAGE("--seed ", test::options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t seed = test::options().seed + i;
    std::mt19937 random(static_cast<unsigned>(seed));
    const auto any = [&](std::int64_t low, std::int64_t high) {
      return std::uniform_int_distribution<std::int64_t>(low, high)(random);
    };
    NormCase c{.n = any(0, 40), .heads = any(0, 3), .d = any(1, 4) == 1 ? any(1, 3000) : 8 * any(1, 700),
               .pad = std::int64_t{any(0, 2)} * 8};
    if (any(0, 3) == 0) c.pad = any(0, 9);
    const Scale scale{.value = std::exp2(static_cast<float>(any(-12, 6)) / 3), .is_stored = any(0, 1) == 1};
    const DType in = gpu_dtypes[any(0, 1)], to = fp8_dtypes[any(0, 1)];
    check_layernorm(in, to, any(0, 1) == 0 ? DType::f32 : in, c, scale, seed);
    check_case(in, to, c, false, scale, seed);
    if (c.heads == 0) check_case(in, to, c, true, scale, seed);
  }
}

}  // namespace fp8_norm
