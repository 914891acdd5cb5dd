// C4 and its pool: the same plan gives the same bits whoever runs an item, and what must not run is refused.
#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>

#include "core/error.hpp"
#include "ladder/agree.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/draw_case.hpp"
#include "ladder/cases/guarded_output.hpp"
#include "planner/planner.hpp"
#include "reference/c4_planned.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using reference::Schedule;
using reference::ThreadPool;

namespace {

CaseSpec skewed() {
  CaseSpec spec{.name = "skewed", .qo_lens = {1, 1, 1, 1, 1}, .kv_lens = {900, 3, 0, 40, 410}};
  spec.params = {.num_qo_heads = 6, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.125f};
  return spec;
}

}  // namespace

TEST_CASE("every item runs once under both schedules") {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    std::vector<std::vector<std::int32_t>> queues(threads);
    constexpr int n = 500;
    for (int i = 0; i < n; ++i) queues[i % (threads + 1) ? 0 : threads - 1].push_back(i);  // most of it in one queue
    for (const Schedule schedule : {Schedule::fixed, Schedule::stealing}) {
      std::vector<std::atomic<int>> runs(n);
      const auto counts = pool.run(queues, schedule, [&](std::int32_t i, int) { ++runs[i]; });
      std::int64_t total = 0, stolen = 0;
      for (const auto& c : counts) total += c.own + c.stolen, stolen += c.stolen;
      CHECK(total == n);
      if (schedule == Schedule::fixed) CHECK(stolen == 0);
      for (const auto& r : runs) CHECK(r == 1);
    }
  }
}

TEST_CASE("an exception in an item reaches the caller and the pool goes on") {
  ThreadPool pool(3);
  const std::vector<std::vector<std::int32_t>> queues{{0, 1}, {2, 3}, {4, 5}};
  CHECK_THROWS_AS(pool.run(queues, Schedule::stealing,
                           [](std::int32_t i, int) {
                             if (i == 3) throw std::runtime_error("item 3");
                           }),
                  std::runtime_error);
  std::atomic<int> ran = 0;
  pool.run(queues, Schedule::stealing, [&](std::int32_t, int) { ++ran; });
  CHECK(ran == 6);
}

TEST_CASE("the same plan gives the same bits for any number of threads and either schedule") {
  const Case c = draw_case(skewed());
  const Plan plan = planner::make_plan(cpu_plan_inputs(c.spec, {.threads = 3}));
  REQUIRE(plan.num_merges() > 0);
  std::vector<std::byte> workspace(plan.workspace_bytes());
  std::vector<float> first;
  for (int run = 0; run < 40; ++run) {
    ThreadPool pool(1 + run % 4);
    GuardedOutput out(c.spec.nnz_qo(), 6, 64);
    const AttentionOutput view = out.view();
    reference::c4::attend(c.problem(), plan, workspace, pool, run % 2 ? Schedule::fixed : Schedule::stealing, view);
    const auto* o = view.o.data_as<const float>();
    std::vector<float> all(o, o + view.o.size());
    all.insert(all.end(), view.lse_log2.begin(), view.lse_log2.end());
    if (run == 0) first = all;
    CHECK(std::equal(first.begin(), first.end(), all.begin(), [](float a, float b) { return a == b; }));
  }
}

TEST_CASE("with a fixed chunk a request's bits do not depend on its neighbours") {
  const Settings settings{.threads = 2, .policy = planner::SplitPolicy::fixed, .chunk_size = 128};
  const Case batch = draw_case(skewed());
  const RunResult together = run_rung(rung("C4"), batch, settings);
  for (std::int32_t b = 0; b < batch.spec.batch(); ++b) {
    Case alone = batch;  // the same pool and pages, one request
    alone.spec.kv_lens = {batch.spec.kv_lens[b]};
    alone.spec.qo_lens = {1};
    const std::int32_t pages_begin = batch.paged_kv_indptr[b], pages_end = batch.paged_kv_indptr[b + 1];
    alone.paged_kv_indptr = {0, pages_end - pages_begin};
    alone.paged_kv_indices.assign(batch.paged_kv_indices.begin() + pages_begin, batch.paged_kv_indices.begin() + pages_end);
    alone.paged_kv_last_page_len = {batch.paged_kv_last_page_len[b]};
    alone.qo_indptr = {0, 1};
    const std::size_t row_bytes = 6 * 64 * sizeof(float);
    alone.q = OwnedTensor(DType::f32, {1, 6, 64});
    std::copy_n(batch.q.bytes.begin() + static_cast<std::ptrdiff_t>(b * row_bytes), row_bytes, alone.q.bytes.begin());
    REQUIRE(batch.spec.dtype == DType::f32);
    const RunResult single = run_rung(rung("C4"), alone, settings);
    CHECK(std::equal(single.o.begin(), single.o.end(), together.o.begin() + b * 6 * 64));
  }
}

TEST_CASE("C4 refuses a plan made for another problem and a small workspace") {
  const Case c = draw_case(skewed());
  const Plan plan = planner::make_plan(cpu_plan_inputs(c.spec, {.threads = 3}));
  REQUIRE(plan.workspace_bytes() > 0);
  ThreadPool pool(2);
  GuardedOutput out(c.spec.nnz_qo(), 6, 64);
  std::vector<std::byte> workspace(plan.workspace_bytes());
  const auto attend = [&](const Plan& p, std::span<std::byte> w) {
    reference::c4::attend(c.problem(), p, w, pool, Schedule::fixed, out.view());
  };
  CHECK_NOTHROW(attend(plan, workspace));
  CHECK_THROWS_WITH_AS(attend(plan, std::span(workspace).first(workspace.size() - 1)), doctest::Contains("workspace bytes"),
                       InputError);
  for (const std::int32_t kv_len : {41, 39}) {  // request 3 has grown or shrunk by one token since the plan was made
    CaseSpec other = c.spec;
    other.kv_lens[3] = kv_len;
    CHECK_THROWS_WITH_AS(attend(planner::make_plan(cpu_plan_inputs(other, {.threads = 3})), workspace),
                         doctest::Contains("plan again"), InputError);
  }
  Plan lost_request = plan;
  lost_request.batch = 4;
  CHECK_THROWS_WITH_AS(attend(lost_request, workspace), doctest::Contains("another batch"), InputError);
}
