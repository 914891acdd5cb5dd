// The proof of the CPU ladder: every rung equals the rung below and the double oracle, on the whole case table and on random
// cases (--seed N repeats a run, --cases N asks for more). Outputs start as NaN between guard bands, unused slots hold NaN.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.hpp"
#include "ladder/agree.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "ladder/cases/memory/guarded_output.hpp"
#include "reference/c2_split_merge.hpp"
#include "reference/c3_paged.hpp"
#include "tests/check_ladder.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

Verdict check_ladder(const CaseSpec& spec, const Settings& settings) {
  INFO("case: ", spec.name, " (seed ", spec.seed, ")");
  return test::check_ladder(draw_case(spec), settings);
}

}  // namespace

TEST_CASE("every rung equals the rung below on the case table") {
  for (const CaseSpec& spec : case_table()) {
    CHECK_MESSAGE(check_ladder(spec, {.threads = 2}) == Verdict::ok, spec.name, " proves nothing somewhere");
  }
}

TEST_CASE("every rung equals the rung below on random cases") {
  const int cases = test::options().cases_or(1000);
  MESSAGE("--seed ", test::options().seed, " --cases ", cases);
  constexpr planner::SplitPolicy policies[] = {planner::SplitPolicy::none, planner::SplitPolicy::fixed,
                                               planner::SplitPolicy::count, planner::SplitPolicy::balanced};
  int undecided = 0;  // large logits may by chance leave a row where float can't tell much
  for (int i = 0; i < cases; ++i) {
    const Settings settings{.threads = 1 + i % 3,
                            .schedule = i % 2 ? reference::Schedule::fixed : reference::Schedule::stealing,
                            .policy = policies[i % 4], .chunk_size = 64};
    undecided += check_ladder(random_spec(test::options().seed + i), settings) == Verdict::undecided;
  }
  CHECK(undecided <= 1 + cases / 200);
}

TEST_CASE("C4 keeps the many weights that float loses one by one behind a weight of 1") {
  CHECK(check_ladder(random_spec(1755516296), {.threads = 1}) == Verdict::ok);  // 313 keys, one of them weighs 0.99998
}

TEST_CASE("C2 and C3 take any cut in any order") {
  const auto specs = case_table();
  for (std::size_t n = 0; n < specs.size(); n += 3) {
    const Case c = draw_case(specs[n]);
    const Oracle oracle = make_oracle(c, rung("C3").rounding(c.spec));
    Random random(test::options().seed + n);
    const auto split = [&](std::int32_t kv_len) {
      std::vector<Range> pieces;
      for (std::int32_t j = 0; j < kv_len;) {
        const std::int32_t end = std::min<std::int32_t>(kv_len, j + 1 + static_cast<std::int32_t>(random.below(90)));
        pieces.push_back({j, end});
        j = end;
      }
      for (std::size_t i = pieces.size(); i > 1; --i)
        std::swap(pieces[i - 1], pieces[random.below(static_cast<std::uint32_t>(i))]);
      return pieces;
    };
    const AttentionProblem problem = c.problem();
    for (const auto attend : {reference::c2::attend, reference::c3::attend}) {
      GuardedOutput out(problem.q.shape[0], problem.params.num_qo_heads, problem.params.head_dim_vo);
      const AttentionOutput view = out.view();
      attend(problem, view, split);
      const auto* o = view.o.data_as<const float>();
      const Comparison comparison = compare(c, {o, o + view.o.size()}, view.lse_log2, oracle);
      CHECK_MESSAGE(comparison.ok(), specs[n].name, " --seed ", test::options().seed, ": ", comparison.message());
    }
  }
}

TEST_CASE("a split that loses or repeats a key is refused") {
  const Case c = draw_case(case_table().front());
  GuardedOutput out(c.spec.nnz_qo(), c.spec.params.num_qo_heads, c.spec.params.head_dim_vo);
  const auto lost = [](std::int32_t kv_len) { return std::vector<Range>{{0, kv_len / 2}}; };
  const auto twice = [](std::int32_t kv_len) { return std::vector<Range>{{0, kv_len}, {0, kv_len}}; };
  CHECK_THROWS_WITH_AS(reference::c2::attend(c.problem(), out.view(), lost), doctest::Contains("every key once"),
                       InputError);
  CHECK_THROWS_WITH_AS(reference::c2::attend(c.problem(), out.view(), twice), doctest::Contains("every key once"),
                       InputError);
}

TEST_CASE("the oracle is the formula: a case worked out by hand") {
  // One query, two keys: logits 0 and ln 3 (natural), so the weights are 1/4 and 3/4 and lse is log2(1 + 3) = 2.
  std::vector<float> q{1}, k{0, std::log(3.0f)}, v{10, 20}, o(1), lse(1);
  const std::vector<std::int32_t> qo_indptr{0, 1}, kv_indptr{0, 1}, indices{0}, last{2};
  AttentionProblem problem;
  problem.params = {.num_qo_heads = 1, .num_kv_heads = 1, .head_dim_qk = 1, .head_dim_vo = 1, .sm_scale = 1};
  problem.q = contiguous(q.data(), DType::f32, {1, 1, 1});
  problem.kv = paged_kv_cache(contiguous(k.data(), DType::f32, {1, 2, 1, 1}), contiguous(v.data(), DType::f32, {1, 2, 1, 1}),
                              KvLayout::NHD);
  problem.qo_indptr = qo_indptr;
  problem.paged_kv_indptr = kv_indptr;
  problem.paged_kv_indices = indices;
  problem.paged_kv_last_page_len = last;
  rung("C0").prepare({problem, {contiguous(o.data(), DType::f32, {1, 1, 1}), lse}, {}}, {}, {})(nullptr);
  CHECK(o[0] == doctest::Approx(17.5));
  CHECK(lse[0] == doctest::Approx(2));
}

TEST_CASE("an unknown rung is refused with the names") {
  CHECK_THROWS_WITH_AS(rung("C9"), doctest::Contains("C0, C1, C2, C3, C4"), InputError);
}
