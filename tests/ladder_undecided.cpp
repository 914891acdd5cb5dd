// What a comparison can't decide it doesn't pass: tolerances that no answer could exceed, NaN on any side, and rows whose
// data would loosen the tolerance of others.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <tuple>
#include <vector>

#include "ladder/agree.hpp"
#include "ladder/cases/drawn/draw_case.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

constexpr double u = 0x1p-24;
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

Case drawn(std::vector<std::int32_t> qo_lens, std::vector<std::int32_t> kv_lens, std::int32_t heads, std::int32_t dim) {
  CaseSpec s{.name = "undecided", .qo_lens = std::move(qo_lens), .kv_lens = std::move(kv_lens)};
  s.params = {.num_qo_heads = heads, .num_kv_heads = heads, .head_dim_qk = dim, .head_dim_vo = dim, .sm_scale = 1};
  s.combined_cache = false;
  return draw_case(s);
}

std::span<float> floats(OwnedTensor& t) { return {t.view().data_as<float>(), static_cast<std::size_t>(t.size())}; }
void fill(OwnedTensor& t, float value) {
  for (float& x : floats(t)) x = value;
}

// One query with some keys, one head of one feature: k and v as given.
Case by_hand(float q, const std::vector<float>& k, const std::vector<float>& v) {
  Case c = drawn({1}, {static_cast<std::int32_t>(k.size())}, 1, 1);
  fill(c.q, q);
  for (std::size_t j = 0; j < k.size(); ++j) {
    const std::size_t at = static_cast<std::size_t>(c.paged_kv_indices[0]) * 16 + j;
    floats(c.k_cache)[at] = k[j];
    floats(c.v_cache)[at] = v[j];
  }
  return c;
}

RunResult right_answer(const Oracle& oracle) {
  return {.o = {oracle.o.begin(), oracle.o.end()}, .lse_log2 = {oracle.lse_log2.begin(), oracle.lse_log2.end()}};
}

}  // namespace

TEST_CASE("large logits of which one stands out: all zeros fail") {
  Case c = drawn({3}, {40}, 1, 64);
  for (OwnedTensor* t : {&c.q, &c.k_cache}) {
    for (float& x : floats(*t)) x = -900 * std::abs(x);
  }
  for (float& x : floats(c.v_cache)) x = 1 - 1 / (1 + std::abs(x));
  const Oracle oracle = make_oracle(c);
  CHECK(agree(c, run_rung(rung("C4"), c), nullptr, oracle).ok());
  RunResult zeros = right_answer(oracle);
  zeros.o.assign(zeros.o.size(), 0);
  CHECK(agree(c, zeros, nullptr, oracle).verdict() == Verdict::fail);
}

TEST_CASE("logits that float can't tell apart: neither zeros nor the right answer pass") {
  Case c = drawn({3}, {40}, 1, 64);
  for (float& x : floats(c.q)) x = 900;
  for (float& x : floats(c.k_cache)) x = 900 + 1e-4f * x;
  for (float& x : floats(c.v_cache)) x = 1 - 1 / (1 + std::abs(x));
  const Oracle oracle = make_oracle(c);
  RunResult zeros = right_answer(oracle);
  zeros.o.assign(zeros.o.size(), 0);
  for (const RunResult& result : {zeros, right_answer(oracle), run_rung(rung("C4"), c)}) {
    const Comparison comparison = agree(c, result, nullptr, oracle);
    CHECK(comparison.verdict() == Verdict::undecided);
    CHECK(comparison.message().find("o undecided: request 0 query 0 head 0") != std::string::npos);
  }
}

TEST_CASE("products that overflow float: the oracle is right and nothing passes") {
  Case c = drawn({1}, {3}, 1, 64);
  fill(c.q, 1e20f);
  fill(c.k_cache, 1e20f);
  fill(c.v_cache, 1);
  const Oracle oracle = make_oracle(c);
  CHECK(oracle.o == std::vector<double>(64, 1.0));
  CHECK(oracle.lse_log2[0] == doctest::Approx(64e40 * 1.4426950408889634).epsilon(1e-6));
  for (const char* name : {"C1", "C2", "C3", "C4"}) CHECK_FALSE(agree(c, run_rung(rung(name), c), nullptr, oracle).ok());
  CHECK_FALSE(agree(c, right_answer(oracle), nullptr, oracle).ok());
}

TEST_CASE("the tolerance is its formula") {
  const double k = 4 + 4.0 / 3, log2_e = 1.4426950408889634;
  const Oracle one = make_oracle(by_hand(0.5f, {2}, {3}));  // P is exactly 1, and o exact: only the rounding of o is allowed
  CHECK(one.tolerance[0].o == doctest::Approx(k * u * 3));
  CHECK(one.tolerance[0].o_reach == 3);
  CHECK(one.tolerance[0].lse_log2 >= k * u * (1 + log2_e));
  CHECK(one.tolerance[0].lse_log2 <= k * u * (1 + log2_e) + 2 * u * 1.5);  // naive rounds log2 e at most
  const Oracle two = make_oracle(by_hand(0.5f, {2, 2}, {1, 3}));  // equal weights, exact too: S = 1, E = 1
  CHECK(two.tolerance[0].o == doctest::Approx(k * u * (1 + log2_e) + 3 * u * 1 + k * u * 3));
  CHECK(two.tolerance[0].o_reach == 2);
}

TEST_CASE("one row's data never loosens another's tolerance") {
  Case c = drawn({1, 2}, {30, 20}, 2, 16);
  const Oracle before = make_oracle(c);
  for (std::size_t i = 0; i < 2 * 2 * 16; ++i) floats(c.q)[i] *= 1e6f;  // request 0, and the first query of request 1
  const Oracle after = make_oracle(c);
  for (const std::size_t row : {0, 1, 2, 3}) CHECK(after.tolerance[row].lse_log2 > 1000 * before.tolerance[row].lse_log2);
  for (const std::size_t row : {4, 5}) {
    CHECK(after.tolerance[row].o == before.tolerance[row].o);
    CHECK(after.tolerance[row].lse_log2 == before.tolerance[row].lse_log2);
  }
}

TEST_CASE("a rung and the one below may differ by twice the tolerance and not by more") {
  const Case c = drawn({2}, {30}, 2, 16);
  const Oracle oracle = make_oracle(c);
  const auto shifted = [&](double by) {
    RunResult result = right_answer(oracle);
    result.o[21] += static_cast<float>(by * oracle.tolerance[1].o);
    return result;
  };
  const RunResult above = shifted(0.9), near = shifted(-0.9), far = shifted(-1.4);
  CHECK(agree(c, above, &near, oracle).ok());
  CHECK(agree(c, above, &far, oracle).verdict() == Verdict::fail);
  CHECK(agree(c, shifted(1.1), nullptr, oracle).verdict() == Verdict::fail);
}

TEST_CASE("a message names the row, of whichever request") {
  const Case c = drawn({2, 0, 1}, {30, 4, 20}, 2, 16);
  const Oracle oracle = make_oracle(c);
  RunResult result = right_answer(oracle);
  result.o[4 * 16 + 3] += 1;
  const std::string message = agree(c, result, nullptr, oracle).message();
  CHECK(message.find("o: request 2 query 0 head 0 feature 3") == 0);
}

TEST_CASE("what can't be decided is worse than what came near to its tolerance") {
  Comparison undecided, near;
  undecided.o_undecided.rows = 1;
  near.o.error = 0.5, near.o.tolerance = 1;
  CHECK(is_worse(undecided, near));
  CHECK_FALSE(is_worse(near, undecided));
}

TEST_CASE("ALiBi's constant adds a few roundings of itself to the tolerance") {
  Case c = drawn({1}, {4000}, 1, 16);
  const double without = make_oracle(c).tolerance[0].lse_log2;
  c.spec.params.pos_encoding_mode = PosEncodingMode::ALIBI;
  const double with = make_oracle(c).tolerance[0].lse_log2, constant = 3999 / 256.0 * 1.4426950408889634;
  CHECK(with > 4 * u * constant);
  CHECK(with < without + 40 * u * constant);
}

TEST_CASE("a sink has the value 0: the spread that a row sees reaches to it") {
  for (const auto& [values, alone, with_sink] : {std::tuple{std::vector<float>{1, 3}, 2.0, 3.0},
                                                 std::tuple{std::vector<float>{-3, -1}, 2.0, 3.0},
                                                 std::tuple{std::vector<float>{-1, 3}, 4.0, 4.0}}) {
    Case c = by_hand(0.5f, {2, 2}, values);
    CHECK(seen_by_rows(c.problem(), 0, 0, 0).at(0).spread == alone);
    c.spec.params.sinks = true, c.sinks = {5};
    CHECK(seen_by_rows(c.problem(), 0, 0, 0).at(0).spread == with_sink);
    const HeadFilter none = [](std::int32_t, std::int32_t) { return false; };
    CHECK(make_oracle(c, DType::f32, none).tolerance.at(0).o_reach == with_sink / 2);
  }
}

TEST_CASE("ALiBi's constant comes from the mask of the row's own request") {
  Case c = drawn({2, 1}, {300, 4000}, 1, 16);
  c.spec.params.pos_encoding_mode = PosEncodingMode::ALIBI;
  c.spec.params.mask = MaskMode::custom, c.spec.custom_mask = CustomMask::given;
  c.custom_mask.assign(2 * 300 + 4000, 1);
  std::fill(c.custom_mask.begin() + 2 * 300 + 50, c.custom_mask.end(), 0);  // of 4000 keys request 1 sees the first 50
  const Oracle both = make_oracle(c);
  Case alone = c;  // request 1
  alone.spec.qo_lens = {1}, alone.spec.kv_lens = {4000}, alone.qo_indptr = {0, 1};
  alone.paged_kv_indptr = {0, 250}, alone.paged_kv_last_page_len = {16};
  alone.paged_kv_indices.erase(alone.paged_kv_indices.begin(), alone.paged_kv_indices.end() - 250);
  alone.custom_mask.erase(alone.custom_mask.begin(), alone.custom_mask.end() - 4000);
  alone.q = OwnedTensor(DType::f32, {1, 1, 16});
  std::copy_n(floats(c.q).begin() + 2 * 16, 16, floats(alone.q).begin());
  const Oracle one = make_oracle(alone);
  CHECK(both.lse_log2[2] == one.lse_log2[0]);
  CHECK(both.tolerance[2].lse_log2 == one.tolerance[0].lse_log2);
  CHECK(both.tolerance[2].o == one.tolerance[0].o);
}

TEST_CASE("a row that nobody computed must be right within half of what a wrong answer differs by, from its own data") {
  const HeadFilter none = [](std::int32_t, std::int32_t) { return false; };
  const Oracle two = make_oracle(by_hand(0.5f, {2, 2}, {1, 3}), DType::f32, none);
  CHECK(two.tolerance[0].o_reach == 1);
  CHECK(two.tolerance[0].lse_reach == 0.5);
  Case c = drawn({2}, {30}, 1, 16);
  c.spec.params.mask = MaskMode::causal;
  const Oracle before = make_oracle(c, DType::f32, none);
  const std::size_t last_key = (static_cast<std::size_t>(c.paged_kv_indices[1]) * 16 + 13) * 16;  // only query 1 sees it
  for (std::size_t i = 0; i < 16; ++i) floats(c.k_cache)[last_key + i] *= 1e6f;
  const Oracle after = make_oracle(c, DType::f32, none);
  CHECK(after.tolerance[0].lse_log2 == before.tolerance[0].lse_log2);
  CHECK(after.tolerance[1].lse_log2 > 1000 * before.tolerance[1].lse_log2);
}

TEST_CASE("NaN passes on no side") {
  const Case c = drawn({2}, {30}, 2, 16);
  const Oracle oracle = make_oracle(c);
  const RunResult right = right_answer(oracle);
  CHECK(agree(c, right, nullptr, oracle).ok());
  RunResult got = right;
  got.o[7] = not_a_number;
  CHECK(agree(c, got, nullptr, oracle).verdict() == Verdict::fail);
  CHECK(compare(c, got.o, got.lse_log2, {}, {}, oracle.tolerance).verdict() == Verdict::fail);  // nothing to compare with
  got = right;
  got.lse_log2[3] = not_a_number;
  CHECK(agree(c, got, nullptr, oracle).verdict() == Verdict::fail);
  Oracle wrong = oracle;
  wrong.o[40] = not_a_number;
  CHECK(agree(c, right, nullptr, wrong).verdict() == Verdict::fail);
  CHECK(agree(c, right, &got, oracle).verdict() == Verdict::fail);
  for (const double bad : {static_cast<double>(not_a_number), std::numeric_limits<double>::infinity()}) {
    wrong = oracle;
    wrong.tolerance[2].o = bad;
    CHECK(agree(c, right, nullptr, wrong).verdict() == Verdict::undecided);
    wrong = oracle;
    wrong.tolerance[2].lse_log2 = bad;
    CHECK(agree(c, right, nullptr, wrong).verdict() == Verdict::undecided);
  }
  Case broken = c;
  floats(broken.q)[0] = not_a_number;  // the right answer of query 0 is NaN: nothing equals it
  CHECK(agree(broken, run_rung(rung("C0"), broken), nullptr, make_oracle(broken)).verdict() == Verdict::undecided);
}

TEST_CASE("an answer without lse does not pass where one is wanted") {
  const Case c = drawn({2}, {30}, 2, 16);
  const Oracle oracle = make_oracle(c);
  const RunResult right = right_answer(oracle);
  CHECK(compare(c, right.o, {}, oracle.o, oracle.lse_log2, oracle.tolerance).message() ==
        "sizes differ: lse_log2 has 0 elements, should have 4");
}

TEST_CASE("a workspace begins as NaN, and what is written beside it is seen") {
  const Case c = drawn({1}, {30}, 1, 16);
  const Oracle oracle = make_oracle(c);
  for (const std::ptrdiff_t at : {std::ptrdiff_t{-1}, std::ptrdiff_t{0}, std::ptrdiff_t{63}, std::ptrdiff_t{64}}) {
    Rung with_workspace = rung("C1");
    float first = 0;
    with_workspace.workspace_bytes = [](const CaseSpec&, const Settings&) { return std::size_t{64}; };
    with_workspace.prepare = [&, inner = with_workspace.prepare](const Buffers& b, const CaseSpec& spec,
                                                                 const Settings& settings) -> Runner {
      return [&, run = inner(b, spec, settings), bytes = b.workspace.data()](void* stream) {
        first = *reinterpret_cast<const float*>(bytes);
        bytes[at] ^= std::byte{1};
        run(stream);
      };
    };
    const Comparison comparison = agree(c, run_rung(with_workspace, c), nullptr, oracle);
    CHECK(comparison.ok() == (at >= 0 && at < 64));
    CHECK(std::isnan(first));
  }
}
