// Plan and run on the CPU: equal to the oracle, in exactly the memory that was asked for, planned again and again.
#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

#include "api/flashladder.hpp"
#include "api/most_work.hpp"
#include "ladder/case_table.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/memory/guarded_output.hpp"
#include "ladder/oracle.hpp"
#include "planner/planner.hpp"
#include "tests/api_cases.hpp"
#include "tests/options.hpp"

using namespace flashladder;
using namespace flashladder::api;
using namespace flashladder::ladder;
using namespace flashladder::test;

namespace {

// ... and K and V of one head_dim.
CaseSpec as_decode(const CaseSpec& of) {
  CaseSpec spec = one_query_each(of);
  spec.params.head_dim_vo = spec.params.head_dim_qk;
  spec.name += " as decode";
  return spec;
}

struct Decoded {
  std::vector<float> o, lse_log2;
  friend bool operator==(const Decoded&, const Decoded&) = default;
};

// One plan and one run of a whole case, in exactly workspace_bytes() between guard bands. o in f32.
Decoded plan_and_run(const Case& c, AttentionConfig config) {
  const auto bytes = BatchDecodeWithPagedKVCache::workspace_bytes(config, c.paged_kv_indptr, c.paged_kv_last_page_len);
  CHECK(bytes.staging == 0);
  GuardedBytes workspace(bytes.device);
  std::fill_n(workspace.data(), workspace.size(), std::byte{0xff});
  BatchDecodeWithPagedKVCache decode(config, {.device = {workspace.data(), workspace.size()}});
  decode.plan(c.paged_kv_indptr, c.paged_kv_last_page_len);
  GuardedOutput out(c.spec.batch(), config.heads.num_qo_heads, config.heads.dim_vo(), config.dtype_of_o());
  const AttentionOutput view = out.view();
  decode.run(c.q.view(), c.problem().kv, c.paged_kv_indices, view, nullptr, c.sinks, {}, c.problem().scales);
  CHECK(workspace.guards_intact());
  CHECK(out.guards_intact());
  Decoded result{.o = std::vector<float>(static_cast<std::size_t>(view.o.size())),
                .lse_log2 = {view.lse_log2.begin(), view.lse_log2.end()}};
  reference::load_row(view.o, 0, view.o.size(), result.o.data());
  return result;
}

void check_decode(const CaseSpec& spec) {
  INFO("case: ", spec.name, " (seed ", spec.seed, ")");
  const Case c = draw_case(spec);
  const Oracle oracle = make_oracle(c);
  AttentionConfig config = config_of(spec, Device::cpu, DType::f32);
  config.execution.policy = spec.seed % 2 ? SplitPolicy::balanced : SplitPolicy::fixed;
  config.execution.chunk_size = 64;
  const Decoded exact = plan_and_run(c, config);
  const Comparison comparison = compare(c, exact.o, exact.lse_log2, oracle);
  CHECK_MESSAGE(comparison.ok(), comparison.message());
  if (spec.dtype == DType::f32) return;
  config.o_dtype = spec.dtype;
  const Decoded narrow = plan_and_run(c, config);
  CHECK(rounded(narrow.o, spec.dtype) == rounded(exact.o, spec.dtype));
  CHECK(narrow.lse_log2 == exact.lse_log2);
}

// A pool of requests of which batches are made; long ones, so that plans cut.
Case pool_of_requests(std::uint64_t seed, std::int32_t num_qo_heads = 6) {
  CaseSpec spec{.name = "pool", .seed = seed, .qo_lens = {}, .kv_lens = {700, 3, 0, 40, 411, 64, 128, 1},
                .dtype = DType::bf16};
  spec.qo_lens.assign(spec.kv_lens.size(), 1);
  spec.params = {.num_qo_heads = num_qo_heads, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .sm_scale = 0.125f};
  return draw_case(spec);
}

// A batch through any decode object, into max_rows rows that start as NaN.
template <class Run>
Decoded run_batch(const Case& c, const Batch& batch, std::int32_t rows, Run&& run) {
  const std::int64_t heads = c.spec.params.num_qo_heads, dim = c.spec.params.head_dim_qk;
  std::vector<std::byte> q = rows_of(c.q, batch, static_cast<std::size_t>(rows));
  GuardedOutput out(rows, static_cast<std::int32_t>(heads), static_cast<std::int32_t>(dim));
  const AttentionOutput view = out.view();
  run(contiguous(q.data(), c.spec.dtype, {rows, heads, dim}), view);
  CHECK(out.guards_intact());
  const auto* o = view.o.data_as<const float>();
  return {{o, o + view.o.size()}, {view.lse_log2.begin(), view.lse_log2.end()}};
}

}  // namespace

TEST_CASE("plan and run equal the oracle on the case table") {
  for (const CaseSpec& spec : case_table()) check_decode(as_decode(spec));
}

TEST_CASE("plan and run equal the oracle on random cases") {
  const int cases = options().cases_or(100);
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) check_decode(as_decode(random_spec(options().seed + static_cast<std::uint64_t>(i))));
}

TEST_CASE("one object, many batches: each as if it were the only one") {
  const Case c = pool_of_requests(3);
  const PagedKvCache kv = c.problem().kv;
  const AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
  const AttentionLimits limits{9, 200};
  std::vector<std::byte> memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, limits).device);
  BatchDecodeWithPagedKVCache decode(config, {.device = memory});
  Random random(5);
  for (int i = 0; i < 60; ++i) {
    const Batch batch = random_batch(c, random, limits.max_batch, limits.max_pages);
    const auto run_on = [&](BatchDecodeWithPagedKVCache& object) {
      object.plan(batch.paged_kv_indptr, batch.paged_kv_last_page_len);
      return run_batch(c, batch, batch.size(), [&](const Tensor& q, const AttentionOutput& output) {
        object.run(q, kv, batch.paged_kv_indices, output);
      });
    };
    std::vector<std::byte> own(memory.size());
    BatchDecodeWithPagedKVCache fresh(config, {.device = own});
    CHECK(run_on(decode) == run_on(fresh));
  }
}

TEST_CASE("a graph's object replays any batch within its limits and leaves the other rows alone") {
  const Case c = pool_of_requests(4);
  const PagedKvCache kv = c.problem().kv;
  AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
  const AttentionLimits limits{8, 150};
  GuardedBytes memory(CUDAGraphBatchDecodeWithPagedKVCache::workspace_bytes(config, limits).device);
  CUDAGraphBatchDecodeWithPagedKVCache graph(config, limits, {.device = {memory.data(), memory.size()}});
  std::vector<std::byte> own(memory.size());
  BatchDecodeWithPagedKVCache eager(config, {.device = own});
  Random random(6);
  for (int i = 0; i < 50; ++i) {
    const Batch batch = random_batch(c, random, limits.max_batch, limits.max_pages);
    graph.plan(batch.paged_kv_indptr, batch.paged_kv_indices, batch.paged_kv_last_page_len);
    const Decoded replayed = run_batch(c, batch, limits.max_batch, [&](const Tensor& q, const AttentionOutput& output) {
      graph.run(q, kv, output);
    });
    eager.plan(batch.paged_kv_indptr, batch.paged_kv_last_page_len);
    const Decoded once = run_batch(c, batch, batch.size(), [&](const Tensor& q, const AttentionOutput& output) {
      eager.run(q, kv, batch.paged_kv_indices, output);
    });
    CHECK(std::equal(once.o.begin(), once.o.end(), replayed.o.begin()));
    CHECK(std::equal(once.lse_log2.begin(), once.lse_log2.end(), replayed.lse_log2.begin()));
    const auto is_nan = [](float x) { return x != x; };
    CHECK(std::all_of(replayed.o.begin() + static_cast<std::ptrdiff_t>(once.o.size()), replayed.o.end(), is_nan));
  }
  CHECK(memory.guards_intact());
}

TEST_CASE("a batch within the limits never takes more than most_work") {
  Random random(options().seed);
  MESSAGE("--seed ", options().seed);
  const auto pick = [&](int low, int high) {
    return low + static_cast<int>(random.below(static_cast<std::uint32_t>(high - low + 1)));
  };
  for (int i = 0; i < 4000; ++i) {
    std::vector<std::int32_t> kv_lens(static_cast<std::size_t>(pick(0, 12)));
    for (std::int32_t& len : kv_lens) len = pick(0, 3) == 0 ? pick(0, 5000) : pick(0, 300);
    const int kv_heads = pick(1, 4);
    planner::PlanInputs in{.kv_lens = kv_lens, .num_qo_heads = kv_heads * pick(1, 9), .num_kv_heads = kv_heads,
                           .page_size = pick(1, 40), .window_left = pick(0, 3) == 0 ? pick(0, 400) : -1,
                           .query_tile = pick(1, 5), .policy = planner::all_policies[static_cast<std::size_t>(pick(0, 5))],
                           .chunk_size = 64 * pick(1, 8), .machine = {pick(1, 40), pick(1, 2)}};
    std::vector<std::int32_t> qo_lens(kv_lens.size());
    for (std::int32_t& len : qo_lens) len = pick(0, 2) == 0 ? pick(0, 300) : pick(0, 3);
    for (const bool decode : {true, false}) {
      if (!decode) in.qo_lens = qo_lens, in.mask = pick(0, 1) == 0 ? MaskMode::causal : MaskMode::none;
      const Plan plan = planner::make_plan(in);
      const planner::CaptureLimits used = planner::usage(plan, in);
      AttentionLimits limits{static_cast<std::int32_t>(used.batch), used.pages};  // the tightest that hold it
      if (!decode) limits.max_nnz_qo = used.nnz_qo;
      const planner::CaptureLimits most = most_work(in, limits);
      CHECK_MESSAGE(planner::exceeds(plan, in, most) == "", "policy ", planner::name_of(in.policy), " case ", i);
    }
  }
}

TEST_CASE("most_work is reached: one long request is cut between every two CTAs") {
  const std::vector<std::int32_t> kv_lens{100000};
  const planner::PlanInputs in{.kv_lens = kv_lens, .num_qo_heads = 8, .num_kv_heads = 1, .machine = {33, 2}};
  const planner::CaptureLimits used = planner::usage(planner::make_plan(in), in);
  CHECK(used == most_work(in, {1, used.pages}));
}

TEST_CASE("different objects in different threads") {
  const Case c = pool_of_requests(7);
  const PagedKvCache kv = c.problem().kv;
  const AttentionConfig config = config_of(c.spec, Device::cpu, DType::f32);
  const auto work = [&](std::uint64_t seed) {
    Random random(seed);
    std::vector<Decoded> results;
    std::vector<std::byte> memory(BatchDecodeWithPagedKVCache::workspace_bytes(config, AttentionLimits{8, 200}).device);
    BatchDecodeWithPagedKVCache decode(config, {.device = memory});
    for (int i = 0; i < 20; ++i) {
      const Batch batch = random_batch(c, random, 8, 200);
      decode.plan(batch.paged_kv_indptr, batch.paged_kv_last_page_len);
      results.push_back(run_batch(c, batch, batch.size(), [&](const Tensor& q, const AttentionOutput& output) {
        decode.run(q, kv, batch.paged_kv_indices, output);
      }));
    }
    return results;
  };
  constexpr std::size_t threads = 4;
  std::vector<std::vector<Decoded>> together(threads);
  {
    std::vector<std::jthread> running;
    for (std::size_t t = 0; t < threads; ++t) running.emplace_back([&, t] { together[t] = work(t); });
  }
  for (std::size_t t = 0; t < threads; ++t) CHECK((together[t] == work(t)));
}
