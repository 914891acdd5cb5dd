// C4 and its pool: the same plan gives the same bits whoever runs an item, and what must not run is refused.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "core/error.hpp"
#include "ladder/agree.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/memory/guarded_output.hpp"
#include "planner/planner.hpp"
#include "reference/c4_lanes.hpp"
#include "reference/query_tile.hpp"
#include "tests/count_allocations.hpp"
#include "tests/skewed_batch.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using reference::PlanExecutor;
using reference::Schedule;
using reference::ThreadPool;
using reference::c4::attend_item;

namespace {

// Where a run writes. The workspace is fresh for each.
class Output {
 public:
  explicit Output(const CaseSpec& spec)
      : output_(spec.nnz_qo(), spec.params.num_qo_heads, spec.params.head_dim_vo) {}

  AttentionOutput view() { return output_.view(); }
  std::span<std::byte> workspace(const Plan& plan) {
    workspace_.assign(plan.workspace_bytes(), std::byte{0xff});
    return workspace_;
  }
  std::vector<float> values() {
    const AttentionOutput out = view();
    const auto* o = out.o.data_as<const float>();
    std::vector<float> all(o, o + out.o.size());
    all.insert(all.end(), out.lse_log2.begin(), out.lse_log2.end());
    return all;
  }

 private:
  GuardedOutput output_;
  std::vector<std::byte> workspace_;
};

constexpr std::int32_t slow_request = 3;
constexpr std::chrono::milliseconds slow_time{3};

void attend_slowly(const AttentionProblem& problem, const reference::QueryTile& tile, std::int32_t kv_head, Range keys,
                   reference::ItemBuffers& buffers, reference::Accumulator& acc) {
  if (tile.request == slow_request) std::this_thread::sleep_for(slow_time);
  attend_item(problem, tile, kv_head, keys, buffers, acc);
}

}  // namespace

TEST_CASE("every item runs once whoever takes it") {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    constexpr int n = 500;
    std::vector<std::int32_t> items(n), indptr(threads + 1, n - 20);  // most of it in one queue
    std::iota(items.begin(), items.end(), 0);
    indptr.front() = 0, indptr.back() = n;
    std::vector<std::atomic<int>> runs(n);
    const auto run_once = [&](std::int32_t i, int) { ++runs[i]; };
    const auto check = [&](std::span<const ThreadPool::Counts> counts, int times) {
      std::int64_t total = 0;
      for (const auto& c : counts) total += c.own + c.stolen;
      CHECK(total == n);
      CHECK(std::ranges::all_of(runs, [=](const auto& r) { return r == times; }));
    };
    const auto fixed = pool.run(items, indptr, Schedule::fixed, run_once);
    CHECK(std::ranges::all_of(fixed, [](const auto& c) { return c.stolen == 0; }));
    check(fixed, 1);
    check(pool.run(items, indptr, Schedule::stealing, run_once), 2);
    check(pool.claim(n, threads, run_once), 3);
  }
}

TEST_CASE("fewer queues than threads use the first workers alone") {
  ThreadPool pool(4);
  const std::vector<std::int32_t> items{7, 8, 9}, indptr{0, 1, 3};
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> most_worker = 0, sum = 0;
    const auto body = [&](std::int32_t item, int worker) {
      sum += item;
      if (worker > most_worker) most_worker = worker;
    };
    CHECK(pool.run(items, indptr, round % 2 ? Schedule::fixed : Schedule::stealing, body).size() == 2);
    CHECK(sum == 24);
    CHECK(most_worker <= 1);
  }
  const auto nothing = [](std::int32_t, int) {};
  CHECK_THROWS_AS(pool.run(items, std::vector<std::int32_t>{0}, Schedule::fixed, nothing), InputError);
  CHECK_THROWS_AS(pool.run(items, std::vector<std::int32_t>{0, 4}, Schedule::fixed, nothing), InputError);
  CHECK_THROWS_AS(pool.claim(3, 5, nothing), InputError);
}

TEST_CASE("an exception in an item reaches the caller and the pool goes on") {
  ThreadPool pool(3);
  const std::vector<std::int32_t> items{0, 1, 2, 3, 4, 5}, indptr{0, 2, 4, 6};
  const auto fails = [](std::int32_t i, int) {
    if (i == 3) throw std::runtime_error("item 3");
  };
  CHECK_THROWS_AS(pool.run(items, indptr, Schedule::stealing, fails), std::runtime_error);
  CHECK_THROWS_AS(pool.run(items, indptr, Schedule::fixed, fails), std::runtime_error);
  CHECK_THROWS_AS(pool.claim(6, 3, fails), std::runtime_error);
  std::atomic<int> ran = 0;
  pool.run(items, indptr, Schedule::stealing, [&](std::int32_t, int) { ++ran; });
  CHECK(ran == 6);
}

TEST_CASE("the same plan gives the same bits for any number of threads and whoever takes the work") {
  for (const bool claimed : {false, true}) {
    const Case c = draw_case(test::mixed_batch());
    const Settings settings{.threads = 3, .policy = planner::SplitPolicy::fixed, .chunk_size = 256};
    planner::PlanInputs in = cpu_plan_inputs(c.spec, settings);
    in.claimed = claimed;
    const Plan plan = planner::make_plan(in);
    REQUIRE(plan.parts.at(0).num_merges() > 0);
    REQUIRE(plan.parts.at(1).num_merges() > 0);
    std::vector<float> first;
    for (int run = 0; run < 40; ++run) {
      PlanExecutor c4(attend_item, 1 + run % 4, PlanExecutor::Workers::exactly);
      Output out(c.spec);
      CHECK(c4.run(c.problem(), plan, out.workspace(plan), run % 2 ? Schedule::fixed : Schedule::stealing, out.view()) ==
            1 + run % 4);
      if (run == 0) first = out.values();
      CHECK(out.values() == first);  // no NaN: it would differ from itself
    }
  }
}

TEST_CASE("the time of each work is that work's, whoever ran it, and nobody has to ask for it") {
  const Case c = draw_case(test::mixed_batch());
  for (const bool claimed : {false, true}) {
    const Settings settings{.threads = 3, .policy = planner::SplitPolicy::fixed, .chunk_size = 256};
    planner::PlanInputs in = cpu_plan_inputs(c.spec, settings);
    in.claimed = claimed;
    const Plan plan = planner::make_plan(in);
    PlanExecutor c4(attend_slowly, 2, PlanExecutor::Workers::exactly);
    Output out(c.spec), timed(c.spec);
    c4.run(c.problem(), plan, out.workspace(plan), Schedule::stealing, out.view());
    std::vector<std::int64_t> least(static_cast<std::size_t>(plan.num_work()), std::int64_t{1} << 62), ns = least;
    for (int run = 0; run < 5; ++run) {
      c4.run(c.problem(), plan, timed.workspace(plan), Schedule::stealing, timed.view(), ns);
      for (std::size_t w = 0; w < ns.size(); ++w) least[w] = std::min(least[w], ns[w]);
    }
    CHECK(out.values() == timed.values());
    std::size_t at = 0;
    for (const PlanPart& part : plan.parts) {
      for (std::int64_t w = 0; w < part.num_work(); ++w, ++at) {
        CHECK((least[at] >= std::chrono::nanoseconds(slow_time).count()) == (part.work(w).request == slow_request));
      }
    }
    ns.pop_back();
    CHECK_THROWS_AS(c4.run(c.problem(), plan, timed.workspace(plan), Schedule::fixed, timed.view(), ns), InputError);
  }
}

TEST_CASE("a value that a row does not see never reaches it whatever it is") {
  for (const MaskMode mask : {MaskMode::causal, MaskMode::custom}) {
    CaseSpec spec = test::skewed_batch();
    spec.qo_lens = {3}, spec.kv_lens = {50}, spec.params.mask = mask;
    if (mask == MaskMode::custom) spec.custom_mask = CustomMask::causal;
    const Case c = draw_case(spec);
    const AttentionProblem problem = c.problem();
    const Plan plan = planner::make_plan(cpu_plan_inputs(spec, {.threads = 2}));
    PlanExecutor c4(attend_item, 2, PlanExecutor::Workers::exactly);
    Output clean(spec), out(spec);
    c4.run(problem, plan, clean.workspace(plan), Schedule::fixed, clean.view());
    for (std::int32_t head = 0; head < 2; ++head) {  // the last token, which only the last query sees
      const std::int64_t at = problem.kv.v_strides.offset(problem.page_table().locate(0, 49), head);
      std::fill_n(static_cast<float*>(problem.kv.v) + at, 64, std::numeric_limits<float>::quiet_NaN());
    }
    c4.run(problem, plan, out.workspace(plan), Schedule::fixed, out.view());
    const std::vector<float> expected = clean.values(), got = out.values();
    for (std::size_t i = 0; i < 3 * 6 * 64; ++i) {
      if (i < 2 * 6 * 64) CHECK(std::abs(got[i] - expected[i]) <= 1e-5f);
      else CHECK(std::isnan(got[i]));
    }
  }
}

TEST_CASE("a plan gets no more threads than it is worth") {
  const auto worth = [](std::int32_t kv_len, std::int32_t most) {
    CaseSpec spec = test::mixed_batch();
    spec.qo_lens = {1}, spec.kv_lens = {kv_len};
    const Plan plan = planner::make_plan(cpu_plan_inputs(spec, {.threads = 8}));
    return reference::workers_worth(plan, spec.params.head_dim_qk, most);
  };
  CHECK(worth(0, 8) == 1);
  CHECK(worth(324, 8) == 1);       // 324 keys * 2 KV heads * 4 rows * 128 = 2^21 / 6.3
  CHECK(worth(4 * 2048, 8) == 4);  // 2048 keys are 2^21
  CHECK(worth(1 << 20, 8) == 8);
  CHECK(worth(2147483647, 8) == 8);
}

TEST_CASE("running again allocates nothing") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const MaskMode mask : {MaskMode::causal, MaskMode::custom}) {
      CaseSpec spec = test::mixed_batch();
      spec.dtype = dtype, spec.params.mask = mask, spec.params.sinks = true;
      if (mask == MaskMode::custom) spec.custom_mask = CustomMask::random;
      const Case c = draw_case(spec);
      const AttentionProblem problem = c.problem();
      const Plan plan = planner::make_plan(cpu_plan_inputs(c.spec, {.threads = 3}));
      PlanExecutor c4(attend_item, 2, PlanExecutor::Workers::exactly);
      Output out(c.spec);
      const std::span<std::byte> workspace = out.workspace(plan);
      const AttentionOutput view = out.view();
      const auto run = [&] { c4.run(problem, plan, workspace, Schedule::fixed, view); };
      run();  // fixed: each worker has the same items again
      const std::size_t before = allocations;
      run();
      CHECK(allocations == before);
    }
  }
}

TEST_CASE("C4 refuses a plan made for another problem and a small workspace") {
  const Case c = draw_case(test::mixed_batch());
  const Plan plan = planner::make_plan(cpu_plan_inputs(c.spec, {.threads = 3}));
  REQUIRE(plan.workspace_bytes() > 0);
  PlanExecutor c4(attend_item, 2, PlanExecutor::Workers::exactly);
  Output out(c.spec);
  const std::span<std::byte> workspace = out.workspace(plan);
  const auto attend = [&](const Plan& p, std::span<std::byte> w) { c4.run(c.problem(), p, w, Schedule::fixed, out.view()); };
  CHECK_NOTHROW(attend(plan, workspace));
  CHECK_THROWS_WITH_AS(attend(plan, workspace.first(workspace.size() - 1)), doctest::Contains("workspace bytes"),
                       InputError);
  for (const std::int32_t kv_len : {41, 39}) {  // request 3 has grown or shrunk by one token since the plan was made
    CaseSpec other = c.spec;
    other.kv_lens[3] = kv_len;
    CHECK_THROWS_WITH_AS(attend(planner::make_plan(cpu_plan_inputs(other, {.threads = 3})), workspace),
                         doctest::Contains("plan again"), InputError);
  }
  const auto refuses = [&](const char* says, auto change) {
    Plan broken = plan;
    change(broken);
    CHECK_THROWS_WITH_AS(attend(broken, workspace), doctest::Contains(says), InputError);
  };
  refuses("another batch", [](Plan& p) { p.batch = 4; });
  refuses("heads must be the problem's", [](Plan& p) { p.num_qo_heads = 4; });
  refuses("must be 1 or the group size", [](Plan& p) { p.parts[0].pack = 2; });
  refuses("no such request, head, row or key", [](Plan& p) { p.parts[0].items[0].request = 6; });
  refuses("no such request, head, row or key", [](Plan& p) { p.parts[0].items[0].head = 2; });
  refuses("no such request, head, row or key", [](Plan& p) { p.parts[0].copies += 1; });
  refuses("no such request, head, row or key", [](Plan& p) { p.parts[0].items[0].rows.end = 4; });
  refuses("no such request, head, row or key", [](Plan& p) { p.parts[0].items[0].keys.end = 901; });
  refuses("partial slot", [](Plan& p) { p.parts[0].items[0].partial_slot = p.partial_rows; });
  refuses("partial slot", [](Plan& p) { p.partial_rows -= 1; });
  const Plan copied = planner::make_plan(cpu_plan_inputs(c.spec, {.threads = 4}));
  REQUIRE(copied.parts[0].copies == 2);
  REQUIRE(!copied.parts[0].merges.empty());
  Plan beyond = copied;  // the slots of copy 0 fit, those of copy 1 don't
  beyond.parts[0].partial_rows = beyond.partial_rows;
  CHECK_NOTHROW(reference::validate_plan(copied, c.problem()));
  CHECK_THROWS_WITH_AS(reference::validate_plan(beyond, c.problem()), doctest::Contains("partial slot"), InputError);
  refuses("a merge reaches outside", [](Plan& p) { p.parts[0].merges[0].num_partials += 1000; });
  refuses("must rise from 0", [](Plan& p) { p.parts[0].queue_indptr.back() += 1; });
  refuses("must rise from 0", [](Plan& p) { p.parts[0].queue.pop_back(); });
  refuses("must name a work item", [](Plan& p) { p.parts[0].queue[0] = -1; });
}
