// What float loses where many small weights are added behind a large one: as much as a rung's chains of additions explain
// is allowed on such a row, no more, and on other rows next to nothing.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "ladder/agree.hpp"
#include "ladder/case_table.hpp"
#include "tests/behind_one.hpp"
#include "tests/check_ladder.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

CaseSpec spec_of(std::int32_t kv_len, std::int32_t head_dim, DType dtype) {
  CaseSpec s{.name = "behind one", .qo_lens = {1, 40}, .kv_lens = {kv_len, kv_len}, .dtype = dtype};
  s.params = {.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = head_dim, .head_dim_vo = head_dim,
              .sm_scale = default_sm_scale(head_dim)};
  return s;
}

template <class Check>
void for_each_cpu_rung(const Check& check) {
  for (const Rung& rung : rungs()) {
    if (rung.device == Device::cpu) check(rung);
  }
}

}  // namespace

TEST_CASE("no rung loses more of the weights behind a weight of 1 than its chains explain, wherever that one lies") {
  for (const std::int32_t head_dim : {8, 64}) {
    for (const DType dtype : {DType::f32, DType::f16}) {
      for (const std::int32_t heaviest : {0, 14, 15, 31, 47, 62, 127, 128, 299}) {
        INFO("head_dim ", head_dim, ", ", name_of(dtype), ", key ", heaviest);
        CHECK(test::check_ladder(test::behind_one(spec_of(300, head_dim, dtype), heaviest), {.threads = 1}) == Verdict::ok);
      }
      CHECK(test::check_ladder(test::behind_one(spec_of(3000, head_dim, dtype)), {.threads = 1}) == Verdict::ok);
    }
  }
}

TEST_CASE("the chains are no longer where a value that the row does not see is not finite") {
  CaseSpec spec = spec_of(128, 8, DType::f16);
  spec.qo_lens = {2, 1}, spec.params.mask = MaskMode::causal;
  const Case clean = test::behind_one(spec);
  Case c = clean;
  const AttentionProblem problem = c.problem();
  for (std::int32_t head = 0; head < 2; ++head) {  // of the last key, which query 0 of request 0 does not see
    const std::int64_t at = problem.kv.v_strides.offset(problem.page_table().locate(0, 127), head);
    static_cast<Half*>(problem.kv.v)[at] = Half(std::numeric_limits<float>::quiet_NaN());
  }
  Oracles oracles(clean);  // the naive formula is no yardstick beside a NaN: there it adds in one chain itself
  for_each_cpu_rung([&](const Rung& rung) {
    INFO(rung.name);
    const Oracle& oracle = oracles.of(rung);
    const RunResult got = run_rung(rung, c, {.threads = 1});
    CHECK(std::isnan(got.o[4 * 8]));
    for (int i = 0; i < 4 * 8; ++i) CHECK(std::abs(got.o[i] - oracle.o[i]) <= oracle.tolerance[i / 8].o);
  });
}

TEST_CASE("a rung that loses all of the weights behind a weight of 1 is caught by the length of its chains") {
  const Case c = test::behind_one(spec_of(3000, 64, DType::f32));
  const RunResult right = run_rung(rung("C0"), c);
  RunResult lost = right;
  const AttentionProblem problem = c.problem();
  for (std::int32_t b = 0, row = 0; b < c.spec.batch(); ++b) {
    for (std::int32_t i = 0; i < c.spec.qo_lens[b] * 4; ++i, ++row) {
      const std::int64_t at = problem.kv.v_strides.offset(problem.page_table().locate(b, 0), row % 4 / 2);
      std::copy_n(static_cast<const float*>(problem.kv.v) + at, 64, lost.o.begin() + row * 64);
    }
  }
  Oracles oracles(c);
  for_each_cpu_rung([&](const Rung& rung) {
    INFO(rung.name);
    CHECK(agree(c, right, nullptr, oracles.of(rung)).ok());
    CHECK(agree(c, lost, nullptr, oracles.of(rung)).verdict() == Verdict::fail);
  });
  CHECK(agree(c, lost, nullptr, make_oracle(c, {DType::f32, whole_row})).ok());  // which one chain does lose
}

TEST_CASE("chains loosen no tolerance of the case table to its double, and most of them not at all") {
  for_each_cpu_rung([](const Rung& rung) {
    INFO(rung.name);
    double worst = 1, sum = 0;
    int rows = 0;
    for (const CaseSpec& spec : case_table()) {
      const Case c = draw_case(spec);
      const Oracle without = make_oracle(c), with = make_oracle(c, rung.rounding(spec));
      for (std::size_t row = 0; row < without.tolerance.size(); ++row) {
        if (without.tolerance[row].o == 0) continue;
        const double ratio = with.tolerance[row].o / without.tolerance[row].o;
        worst = std::max(worst, ratio), sum += ratio, ++rows;
      }
    }
    CHECK(worst < 2);
    CHECK(sum / rows < 1.02);
  });
}
