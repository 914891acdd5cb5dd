// RoPE inside attention where q and K are rotated first and rounded to 16 bits once more, as the fast prefill rungs do it:
// its tolerance allows just that. The rung is played on the CPU: a copy of the case with q and K rotated, and attention
// without RoPE on it.
#include <doctest/doctest.h>

#include <cmath>

#include "core/rope.hpp"
#include "ladder/agree.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "reference/c0_naive.hpp"
#include "reference/element_io.hpp"
#include "tests/gpu_cases.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

// Where a rung thinks that a query (i of its request), and a key (token of its request, in pages of page_size) stand.
struct Positions {
  const char* mistake;
  std::int64_t (*query)(std::int32_t i, std::int32_t diagonal);
  std::int64_t (*key)(std::int32_t token, std::int32_t page_size);
};
constexpr Positions right{"", [](std::int32_t i, std::int32_t diagonal) { return std::int64_t{i} + diagonal; },
                          [](std::int32_t token, std::int32_t) { return std::int64_t{token}; }};
const Positions wrong[] = {
    {"queries from 0", [](std::int32_t i, std::int32_t) { return std::int64_t{i}; }, right.key},
    {"keys at their page's slot", right.query,
     [](std::int32_t token, std::int32_t page_size) { return std::int64_t{token} % page_size; }},
    {"one key too far", right.query, [](std::int32_t token, std::int32_t) { return std::int64_t{token} + 1; }},
    {"not rotated", [](std::int32_t, std::int32_t) { return std::int64_t{0}; },
     [](std::int32_t, std::int32_t) { return std::int64_t{0}; }},
};

// In double, so that now and then an element is rounded to the other side than by whoever computes in float.
template <class Element>
void rotate(Element* head, std::int64_t position, const AttentionParams& p) {
  std::vector<double> x(static_cast<std::size_t>(p.head_dim_qk));
  for (std::size_t d = 0; d < x.size(); ++d) x[d] = static_cast<float>(head[d]);
  apply_rope(x.data(), RopeStyle::neox, position, p.head_dim_qk, p.rope_scale, p.rope_theta);
  for (std::size_t d = 0; d < x.size(); ++d) head[d] = Element(static_cast<float>(x[d]));
}

// The case with q and K rotated in place, rounded to their dtype, and without RoPE. Its requests share no page.
Case rotated(const Case& c, const Positions& at) {
  Case copy = c;
  copy.spec.params.pos_encoding_mode = PosEncodingMode::NONE;
  const AttentionProblem problem = copy.problem();
  const AttentionParams& p = c.spec.params;
  const PageTable table = problem.page_table();
  reference::visit_dtype(c.spec.dtype, [&]<class Element>(Element) {
    for (std::int32_t b = 0; b < c.spec.batch(); ++b) {
      const std::int32_t diagonal = c.spec.kv_lens[b] - c.spec.qo_lens[b];
      for (std::int32_t i = 0; i < c.spec.qo_lens[b]; ++i) {
        auto* query = static_cast<Element*>(problem.q.data) + (problem.qo_indptr[b] + i) * problem.q.strides[0];
        for (std::int32_t h = 0; h < p.num_qo_heads; ++h) rotate(query + h * problem.q.strides[1], at.query(i, diagonal), p);
      }
      for (std::int32_t j = 0; j < c.spec.kv_lens[b]; ++j) {
        for (std::int32_t h = 0; h < p.num_kv_heads; ++h) {
          auto* key = static_cast<Element*>(problem.kv.k) + problem.kv.k_strides.offset(table.locate(b, j), h);
          rotate(key, at.key(j, c.spec.page_size), p);
        }
      }
    }
  });
  return copy;
}

Comparison compared(const Case& c, const Positions& at, const Oracle& oracle) {
  return agree(c, run_rung(rung("C4"), rotated(c, at), {.threads = 1}), nullptr, oracle);
}

// The RoPE cases of the table, and random ones, as the fast prefill rungs take them.
std::vector<CaseSpec> rope_cases() {
  std::vector<CaseSpec> cases;
  const auto add = [&cases](const CaseSpec& spec) {
    if (spec.params.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA) cases.push_back(spec);
  };
  for (const CaseSpec& spec : case_table()) {
    for (std::uint64_t choice = 0; choice < 8; ++choice) add(test::as_prefill(spec, choice));
  }
  for (std::uint64_t seed = 1; seed <= 120; ++seed) {
    add(test::random_prefill(seed, false));
    add(test::random_fast_prefill(seed));
  }
  return cases;
}

}  // namespace

TEST_CASE("who rounds rotated q and K to 16 bits is within the tolerance, and who errs in a position is not") {
  int decided = 0, all = 0, noticed[std::size(wrong)] = {};
  for (const CaseSpec& spec : rope_cases()) {
    INFO("case: ", spec.name, " (seed ", spec.seed, ")");
    const Case c = draw_case(spec);
    const Oracle oracle = make_oracle(c, {spec.dtype, whole_row});
    const Comparison comparison = compared(c, right, oracle);
    CHECK_MESSAGE(comparison.verdict() != Verdict::fail, comparison.message());
    ++all;
    decided += comparison.ok();
    for (std::size_t m = 0; m < std::size(wrong); ++m) {
      noticed[m] += compared(c, wrong[m], oracle).verdict() == Verdict::fail;
    }
  }
  MESSAGE(all, " cases, ", decided, " decided; noticed ", noticed[0], " ", noticed[1], " ", noticed[2], " ", noticed[3]);
  CHECK(all > 40);
  CHECK(decided > all * 29 / 30);
  for (std::size_t m = 0; m < std::size(wrong); ++m) {
    CHECK_MESSAGE(noticed[m] > all / 2, wrong[m].mistake, ": noticed in ", noticed[m], " of ", all);
  }
}

TEST_CASE("the tolerance of rotated q and K is its formula") {
  // One query of one pair on a key like it, both at position 0: no angle, an exact score of 2, R = sqrt(2), S = 0.
  CaseSpec spec{.name = "by hand", .qo_lens = {1}, .kv_lens = {1}, .dtype = DType::f16};
  spec.params = {.head_dim_qk = 2, .head_dim_vo = 2, .sm_scale = 0.5f, .pos_encoding_mode = PosEncodingMode::ROPE_LLAMA};
  Case c = draw_case(spec);
  const AttentionProblem problem = c.problem();
  auto* key = static_cast<Half*>(problem.kv.k) + problem.kv.k_strides.offset(problem.page_table().locate(0, 0), 0);
  for (int d = 0; d < 2; ++d) static_cast<Half*>(problem.q.data)[d] = key[d] = Half(1.0f);
  const double w = 0x1p-11, r = 4 * std::sqrt(2.0 / 3) * w * 0.5 * std::sqrt(2.0);
  const Oracle exact = make_oracle(c), rounding = make_oracle(c, DType::f16);
  CHECK(rounding.tolerance[0].lse_log2 > 1.4426950408889634 * r);
  CHECK(rounding.tolerance[0].lse_log2 < 1.4426950408889634 * r + 1e-5);
  CHECK(exact.tolerance[0].lse_log2 < 1e-5);
  c.spec.params.pos_encoding_mode = PosEncodingMode::NONE;  // nothing is rotated: nothing is rounded
  CHECK(make_oracle(c, DType::f16).tolerance[0].lse_log2 < 1e-5);
}
