// The proof of the CPU's rungs of latent attention: L0 equals C0 on the same data written as multi-query attention, every
// other one the rung below, and all of them the double oracle, on the table and on random cases. Mutants: mla_mutants.cpp.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "core/error.hpp"
#include "ladder/agree.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "ladder/cases/memory/guarded_output.hpp"
#include "reference/mla/l0_naive.hpp"
#include "reference/mla/l1_tiled.hpp"
#include "reference/mla/l2_split_merge.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace flashladder::ladder;

namespace {

Verdict check_ladder(const CaseSpec& spec, const Settings& settings, bool attention_too) {
  INFO("case: ", spec.name, " (seed ", spec.seed, ")");
  const Case c = draw_case(spec);
  Oracles oracles(c);
  std::map<std::string, RunResult> results;
  Verdict worst = Verdict::ok;
  const auto check = [&](const Rung& rung) {
    const RunResult& result = results[rung.name] = run_rung(rung, c, settings);
    const auto below = results.find(rung.must_equal);
    const Comparison comparison = agree(c, result, below == results.end() ? nullptr : &below->second, oracles.of(rung));
    CHECK_MESSAGE(comparison.verdict() != Verdict::fail, rung.name, ": ", comparison.message());
    worst = std::max(worst, comparison.verdict());
  };
  for (const Rung& rung : rungs()) {
    if (rung.device == Device::cpu && (attention_too || rung.name == "C0")) check(rung);
  }
  for (const Rung& rung : mla_rungs()) {
    if (rung.device == Device::cpu) check(rung);
  }
  return worst;
}

}  // namespace

TEST_CASE("MLA: every rung equals the rung below on the case table, and so do attention's rungs") {
  for (const CaseSpec& spec : mla_case_table()) {
    CHECK_MESSAGE(check_ladder(spec, {.threads = 2}, true) == Verdict::ok, spec.name, " proves nothing somewhere");
  }
}

TEST_CASE("MLA: every rung equals the rung below on random cases") {
  const int cases = test::options().cases_or(200);
  MESSAGE("--seed ", test::options().seed, " --cases ", cases);
  constexpr planner::SplitPolicy policies[] = {planner::SplitPolicy::none, planner::SplitPolicy::fixed,
                                               planner::SplitPolicy::count, planner::SplitPolicy::balanced};
  int undecided = 0;
  for (int i = 0; i < cases; ++i) {
    const Settings settings{.threads = 1 + i % 3,
                            .schedule = i % 2 ? reference::Schedule::fixed : reference::Schedule::stealing,
                            .policy = policies[i % 4], .chunk_size = 64};
    undecided += check_ladder(random_mla_spec(test::options().seed + i), settings, false) == Verdict::undecided;
  }
  CHECK(undecided <= 1 + cases / 200);
}

TEST_CASE("L2 takes any cut in any order, and refuses one that loses or repeats a key") {
  const auto specs = mla_case_table();
  for (std::size_t n = 0; n < specs.size(); n += 3) {
    const Case c = draw_case(specs[n]);
    const Oracle oracle = make_oracle(c, rung("L2").rounding(c.spec));
    Random random(test::options().seed + n);
    const auto split = [&](std::int32_t kv_len) {
      std::vector<Range> pieces;
      for (std::int32_t j = 0; j < kv_len;) {
        const std::int32_t end = std::min<std::int32_t>(kv_len, j + 1 + static_cast<std::int32_t>(random.below(90)));
        pieces.push_back({j, end});
        j = end;
      }
      std::ranges::reverse(pieces);
      return pieces;
    };
    GuardedOutput out(c.spec.nnz_qo(), c.spec.params.num_qo_heads, c.spec.params.head_dim_vo);
    const AttentionOutput view = out.view();
    reference::l2::attend(c.mla(), view, split);
    const auto* o = view.o.data_as<const float>();
    const Comparison comparison = compare(c, {o, o + view.o.size()}, view.lse_log2, oracle);
    CHECK_MESSAGE(comparison.ok(), specs[n].name, ": ", comparison.message());
    CHECK(out.guards_intact());
  }
  const Case c = draw_case(specs.front());
  GuardedOutput out(c.spec.nnz_qo(), c.spec.params.num_qo_heads, c.spec.params.head_dim_vo);
  const auto lost = [](std::int32_t kv_len) { return std::vector<Range>{{0, kv_len / 2}}; };
  CHECK_THROWS_WITH_AS(reference::l2::attend(c.mla(), out.view(), lost), doctest::Contains("every key once"), InputError);
}

TEST_CASE("the planned rung of latent attention gives the same bits for any number of threads") {
  CaseSpec spec = mla_case_table()[1];
  spec.kv_lens = {900, 0, 33, 1500, 2, 0, 3};
  const Case c = draw_case(spec);
  for (const auto policy : {planner::SplitPolicy::none, planner::SplitPolicy::fixed}) {  // whose cuts no machine moves
    RunResult first;
    for (int i = 0; i < 8; ++i) {
      const RunResult now = run_rung(rung("L3"), c, {.threads = 1 + i % 4, .schedule = i % 2 ? reference::Schedule::fixed
                                                                                             : reference::Schedule::stealing,
                                                     .policy = policy, .chunk_size = 256});
      if (i == 0) first = now;
      CHECK(now.o == first.o);
      CHECK(now.lse_log2 == first.lse_log2);
    }
  }
}

// As L0, L1 and L2 compute it; tests/api_mla.cpp has L3.
std::vector<std::vector<float>> by_lower_rungs(const MlaProblem& problem, const CaseSpec& spec) {
  std::vector<std::vector<float>> all;
  const auto add = [&](const auto& attend) {
    GuardedOutput out(spec.nnz_qo(), spec.params.num_qo_heads, spec.params.head_dim_vo);
    const AttentionOutput view = out.view();
    attend(view);
    const auto* o = view.o.data_as<const float>();
    all.emplace_back(o, o + view.o.size());
    all.back().insert(all.back().end(), view.lse_log2.begin(), view.lse_log2.end());
  };
  add([&](const AttentionOutput& out) { reference::l0::attend(problem, out); });
  add([&](const AttentionOutput& out) { reference::l1::attend(problem, out); });
  add([&](const AttentionOutput& out) { reference::l2::attend(problem, out); });
  return all;
}

TEST_CASE("the two parts of a latent row may have scales of their own") {
  CaseSpec spec = mla_case_table()[2];
  spec.dtype = DType::f32, spec.kv_dtype = DType::f8_e4m3, spec.kv_scales = KvScaling::number;
  Case c = draw_case(spec);
  MlaProblem problem = c.mla();
  problem.scales.kpe = problem.scales.k * 4;  // a power of two apart: what q_pe may as well be multiplied with, exactly
  const auto apart = by_lower_rungs(problem, spec);
  auto* pe = c.q_pe.view().data_as<float>();
  for (std::int64_t i = 0; i < c.q_pe.size(); ++i) pe[i] *= 4;
  CHECK(apart == by_lower_rungs(c.mla(), spec));
  problem = c.mla();
  problem.scales.v *= 2;  // of values alone
  const auto doubled = by_lower_rungs(problem, spec), single = by_lower_rungs(c.mla(), spec);
  for (std::size_t i = 0; i < single.size(); ++i) {
    CHECK(doubled[i].front() == 2 * single[i].front());
    CHECK(doubled[i].back() == single[i].back());  // an lse
  }
}

TEST_CASE("each ladder's rungs refuse what is not theirs, with the reason") {
  const CaseSpec attention = case_table().front();
  for (const Rung& rung : mla_rungs()) CHECK(rung.supports(attention).reason.find("is not mla") != std::string::npos);
}
