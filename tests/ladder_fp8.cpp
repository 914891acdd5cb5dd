// fp8 caches and scales: what the rungs make of them equals plain attention over what the stored numbers stand for.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "ladder/agree.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "reference/element_io.hpp"
#include "tests/check_ladder.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace fp8 {
namespace {

// The scale rounded to a power of two: dividing and multiplying by it is exact.
void to_powers_of_two(std::vector<float>& scales) {
  for (float& s : scales) s = std::exp2(std::ceil(std::log2(s)));
}

// The same case with K and V in f32 and their scales multiplied in, slot by slot; unused slots stay NaN.
Case dequantised(const Case& c) {
  Case flat = c;
  flat.spec.kv_dtype = {}, flat.spec.kv_scales = KvScaling::none, flat.spec.dtype = DType::f32;
  flat.k_scale = flat.v_scale = {};
  for (OwnedTensor* t : {&flat.q, &flat.kv_cache, &flat.k_cache, &flat.v_cache}) {
    if (t->exists()) *t = OwnedTensor(DType::f32, t->shape);
  }
  reference::visit_dtype(c.q.dtype, [&]<class T>(T) {
    reference::load_row(c.q.view().data_as<const T>(), c.q.size(), flat.q.view().data_as<float>());
  });
  const AttentionProblem from = c.problem(), to = flat.problem();
  const auto copy = [&](const void* a, const KvStrides& at, void* b, const KvStrides& bt, std::int32_t dim, bool keys) {
    for (std::int64_t page = 0; page < from.kv.num_pages; ++page) {
      for (std::int64_t entry = 0; entry < from.kv.page_size; ++entry) {
        for (std::int32_t h = 0; h < from.kv.num_kv_heads; ++h) {
          float* row = static_cast<float*>(b) + bt.offset({page, static_cast<std::int32_t>(entry)}, h);
          reference::visit_cache_dtype(from.kv.dtype, [&]<class T>(T) {
            const auto offset = at.offset({page, static_cast<std::int32_t>(entry)}, h);
            reference::load_row(static_cast<const T*>(a) + offset, dim, row);
          });
          const float scale = keys ? from.scales.k_of(h) : from.scales.v_of(h);
          for (std::int32_t d = 0; d < dim; ++d) row[d] *= scale;
        }
      }
    }
  };
  copy(from.kv.k, from.kv.k_strides, to.kv.k, to.kv.k_strides, from.kv.head_dim_qk, true);
  copy(from.kv.v, from.kv.v_strides, to.kv.v, to.kv.v_strides, from.kv.head_dim_vo, false);
  return flat;
}

std::vector<CaseSpec> scaled_cases() {
  std::vector<CaseSpec> specs;
  for (CaseSpec& spec : case_table()) {
    if (is_fp8(spec.cache_dtype()) || spec.kv_scales != KvScaling::none) specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace

TEST_CASE("fp8: a cache equals an f32 cache of what its numbers stand for") {
  const std::vector<CaseSpec> specs = scaled_cases();
  CHECK(specs.size() >= 10);
  for (const CaseSpec& spec : specs) {
    CAPTURE(spec.name);
    Case c = draw_case(spec);
    to_powers_of_two(c.k_scale), to_powers_of_two(c.v_scale);
    const Case flat = dequantised(c);
    const Oracle a = make_oracle(c), b = make_oracle(flat);
    for (std::size_t i = 0; i < a.o.size(); ++i) CHECK(a.o[i] == doctest::Approx(b.o[i]).epsilon(1e-12));
    const RunResult got = run_rung(rung("C4"), c, {.threads = 1});
    CHECK(agree(flat, got, nullptr, b).verdict() != Verdict::fail);
  }
}

TEST_CASE("fp8: scales that are no power of two are those of the oracle to a rounding") {
  for (const CaseSpec& spec : scaled_cases()) {
    if (spec.values == Values::large) continue;  // a rounding of such a logit moves the weights
    CAPTURE(spec.name);
    const Case c = draw_case(spec), flat = dequantised(c);
    const Oracle a = make_oracle(c), b = make_oracle(flat);
    for (std::size_t i = 0; i < a.o.size(); ++i) CHECK(std::abs(a.o[i] - b.o[i]) < 1e-5);
    for (std::size_t i = 0; i < a.lse_log2.size(); ++i) {
      CHECK((a.lse_log2[i] == b.lse_log2[i] || std::abs(a.lse_log2[i] - b.lse_log2[i]) < 1e-4));
    }
  }
}

TEST_CASE("fp8: drawn values use its whole range, and quantising loses what it must") {
  for (const DType kv_dtype : {DType::f8_e4m3, DType::f8_e5m2}) {
    CaseSpec spec{.name = "range", .qo_lens = {1, 1}, .kv_lens = {200, 31}, .dtype = DType::f16, .kv_dtype = kv_dtype,
                  .kv_scales = KvScaling::per_head};
    spec.params = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64};
    const Case c = draw_case(spec);
    spec.dtype = DType::f32, spec.kv_dtype = {}, spec.kv_scales = KvScaling::none;
    const Case drawn = draw_case(spec), stored = dequantised(c);
    const AttentionProblem a = drawn.problem(), b = stored.problem();
    const float largest = kv_dtype == DType::f8_e4m3 ? 448 : 57344;
    const double u = unit_roundoff(kv_dtype);
    for (std::int32_t h = 0; h < 2; ++h) {
      const double scale = c.k_scale[static_cast<std::size_t>(h)];
      double most = 0, error = 0;
      for (std::int32_t j = 0; j < 200; ++j) {
        const std::int64_t at = a.kv.k_strides.offset(a.page_table().locate(0, j), h);
        for (std::int64_t d = at; d < at + 64; ++d) {
          const double x = static_cast<const float*>(a.kv.k)[d], y = static_cast<const float*>(b.kv.k)[d];
          most = std::max(most, std::abs(y));
          error = std::max(error, std::abs(y - x) / (std::abs(x) * u + scale * 0x1p-10));
        }
      }
      CHECK(most > 0.8 * largest * scale);
      CHECK(error <= 1.001);
      CHECK(error > 0.85);  // half-way above a power of two: u / (1 + u)
    }
  }
}

TEST_CASE("fp8: every rung equals the rung below on random cases of fp8 and scales") {
  const int cases = test::options().cases_or(300);
  MESSAGE("--seed ", test::options().seed, " --cases ", cases);
  int undecided = 0, taken = 0;
  for (int i = 0; taken < cases; ++i) {
    CaseSpec spec = random_spec(test::options().seed + static_cast<std::uint64_t>(i));
    if (!spec.kv_dtype) continue;
    INFO("case: ", spec.name, " (seed ", spec.seed, ")");
    undecided += test::check_ladder(draw_case(spec), {.threads = 1 + i % 2}) == Verdict::undecided;
    ++taken;
  }
  CHECK(undecided <= 1 + cases / 100);
}

TEST_CASE("fp8: NaN and infinity in a cache reach the rows that see them") {
  CaseSpec spec{.name = "nan", .qo_lens = {8}, .kv_lens = {40}, .dtype = DType::f16, .kv_dtype = DType::f8_e5m2,
                .kv_scales = KvScaling::number};
  spec.params = {.num_qo_heads = 1, .num_kv_heads = 1, .head_dim_qk = 64, .head_dim_vo = 64, .mask = MaskMode::causal};
  for (const int bits : {0x7c, 0x7f}) {  // infinity and NaN, in feature 3 of the last key's value
    Case c = draw_case(spec);
    const AttentionProblem p = c.problem();
    auto* v = static_cast<Float8E5M2*>(p.kv.v) + p.kv.v_strides.offset(p.page_table().locate(0, 39), 0);
    v[3].bits = static_cast<std::uint8_t>(bits);
    for (const char* name : {"C0", "C1", "C2", "C3", "C4"}) {
      CAPTURE(name);
      const RunResult r = run_rung(rung(name), c, {.threads = 1});
      for (int i = 0; i < 8; ++i) {
        for (int d = 0; d < 64; ++d) CHECK(std::isfinite(r.o[static_cast<std::size_t>(i * 64 + d)]) == !(i == 7 && d == 3));
      }
    }
  }
}

}  // namespace fp8
