// The GPU's planner makes the host's plan of a prefill. Its code runs here on the host, so that no GPU is needed: every record
// equals what pack() makes of planner::make_plan(). tests/api_gpu_prefill_lengths.cpp runs the kernel, tests/plan_mutants.cpp
// broken copies.
#include <doctest/doctest.h>

#include <limits>

#include "gpu/plan/claimed_plan.hpp"
#include "planner/planner.hpp"
#include "tests/options.hpp"
#include "tests/prefill_plans.hpp"

using namespace flashladder;
using namespace flashladder::test;

namespace {

std::string planned_difference(const PlannedPrefill& batch, const PlannedPrefill& valid) {
  return difference(batch, valid, [](SerialBlock& block, const auto&... rest) { gpu::run_claimed_plan(block, rest...); });
}
std::string planned_difference(const PlannedPrefill& batch) { return planned_difference(batch, batch); }

}  // namespace

TEST_CASE("the plan that the GPU makes of a prefill is the host's in every record, on random batches") {
  const int cases = options().cases_or(3000);
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  int sorted = 0, alike = 0, in_sections = 0, narrowed = 0, packed = 0, large = 0;
  for (int i = 0; i < cases; ++i) {
    const std::uint64_t seed = options().seed + static_cast<std::uint64_t>(i);
    CAPTURE(seed);
    const PlannedPrefill batch = random_prefill(seed);
    CAPTURE(describe(batch));
    REQUIRE(planned_difference(batch) == "");
    const PackedPlan plan = host_plan(batch);
    const gpu::PackedHeader& header = *plan.view.header;
    bool in_order = true;
    for (std::int64_t n = 1; n < plan.shape.items; ++n) {
      in_order = in_order && plan.view.items[n - 1].query <= plan.view.items[n].query;
    }
    sorted += !in_order, alike += in_order && plan.shape.items > 20;
    in_sections += header.section < header.copies, narrowed += header.narrow > 0;
    packed += batch.pack > 1, large += plan.shape.items > 512;
  }
  CHECK(sorted > cases / 10);  // else it shows nothing
  CHECK(alike > cases / 50);
  CHECK(in_sections > cases / 20);
  CHECK(narrowed > cases / 50);
  CHECK(packed > cases / 5);
  CHECK(large > cases / 100);
}

TEST_CASE("the plan that the GPU makes of a prefill is the same by threads that meet at a barrier") {
  const int cases = options().cases_or(40);
  MESSAGE("--seed ", options().seed, " --cases ", cases);
  for (int i = 0; i < cases; ++i) {
    const PlannedPrefill batch = random_prefill(options().seed + static_cast<std::uint64_t>(i));
    CAPTURE(describe(batch));
    const auto run = [](SerialBlock&, const auto&... rest) {
      plan_by_threads([&](ThreadBlock& block) { gpu::run_claimed_plan(block, rest...); });
    };
    REQUIRE(difference(batch, batch, run, ThreadBlock::threads) == "");
  }
}

TEST_CASE("the plan that the GPU makes of a prefill: many requests, one long one, nothing to do") {
  PlannedPrefill batch;
  batch.most_keys = batch.most_queries = std::numeric_limits<std::int32_t>::max();
  batch.max_pages = 1;
  const auto plan = [&](std::size_t requests, std::int32_t qo_len, std::int32_t kv_len) {
    batch.qo_lens.assign(requests, qo_len), batch.kv_lens.assign(requests, kv_len);
    if (requests > 2) batch.qo_lens[requests / 2] = 0, batch.kv_lens[1] = 3;
    batch.fill();
    batch.nnz_qo = batch.qo_indptr.back();
    return planned_difference(batch);
  };
  for (const std::int32_t queries : {0, 1, 300}) {
    for (const std::int32_t keys : {0, 1, 5000}) CHECK(plan(9000, queries, keys) == "");
  }
  CHECK(plan(1, 1 << 20, 1 << 20) == "");
  CHECK(plan(1, 1 << 20, std::numeric_limits<std::int32_t>::max()) == "");
  CHECK(plan(3, 5000, std::numeric_limits<std::int32_t>::max()) == "");
  CHECK(plan(1, 0, 0) == "");
}

TEST_CASE("the plan that the GPU makes of a prefill counts lengths out of range as the ends of the range") {
  PlannedPrefill bad;
  bad.most_keys = 4096, bad.most_queries = 300, bad.nnz_qo = 1000, bad.max_pages = 256;
  bad.qo_lens = {100, 5000, -7, 0, 250, 300, 300, 4};
  bad.kv_lens = {100, 4096, 50, -5, 5000, std::numeric_limits<std::int32_t>::min(), 300, 4};
  PlannedPrefill cut = bad;
  cut.qo_lens = {100, 300, 0, 0, 250, 300, 50, 0};  // what is behind row 1000 is left out
  cut.kv_lens = {100, 4096, 50, 0, 4096, 0, 300, 4};
  bad.fill(), cut.fill();
  for (const bool by_lens : {false, true}) {
    bad.by_lens = by_lens;
    CHECK(planned_difference(bad, cut) == "");
  }
  bad.by_lens = false;
  for (std::int32_t& begin : bad.qo_indptr) begin -= 12345;  // where they begin is not looked at
  CHECK(planned_difference(bad, cut) == "");
  bad.qo_indptr = {std::numeric_limits<std::int32_t>::max(), std::numeric_limits<std::int32_t>::min(), 0, -1, 0, 7, 7, 7, 8};
  bad.kv_lens = cut.kv_lens;
  cut.qo_lens = {0, 300, 0, 1, 7, 0, 0, 1};
  cut.fill();
  CHECK(planned_difference(bad, cut) == "");
}

TEST_CASE("the memory that is bought for a prefill's plan: the most tiles of any lengths, pieces that do not overlap") {
  const auto most = [](std::int32_t batch, std::int32_t nnz_qo, std::int32_t most_queries, std::int32_t pack) {
    const PageTable table = block_table(nullptr, nullptr, 0, 1, batch);
    return gpu::PrefillPlanParams{.table = table, .most_queries = most_queries, .nnz_qo = nnz_qo, .query_tile = 4,
                                  .pack = pack, .view = {}}.most_tiles();
  };
  CHECK(most(3, 10, 10, 1) == 4);   // 5, 4 and 1
  CHECK(most(3, 10, 10, 3) == 9);   // a bound: 8, 1 and 1 are 8 tiles
  CHECK(most(3, 100, 2, 1) == 3);   // no request has more than a tile
  CHECK(most(3, 100, 5, 1) == 6);
  CHECK(most(9, 2, 10, 1) == 2);    // no more requests than queries
  CHECK(most(9, 0, 10, 1) == 0);
  for (const std::int32_t batch : {1, 1000, 2000, 2500, 9000}) {
    const PageTable table = block_table(nullptr, nullptr, 0, 1, batch);
    const gpu::PrefillPlanParams params{.table = table, .most_items = 10, .view = {}};
    std::byte shared{}, scratch{};
    const auto m = gpu::claimed_plan_memory(params, gpu::plan_threads, &shared, &scratch);
    CHECK(m.shared_bytes <= gpu::most_shared_bytes);
    const auto distance = [](const void* from, const void* to) {
      return static_cast<std::size_t>(static_cast<const std::byte*>(to) - static_cast<const std::byte*>(from));
    };
    CHECK(distance(m.of_threads, m.extent) == 2 * gpu::plan_threads * sizeof(gpu::TileSums));
    CHECK(distance(&scratch, m.order) + 2 * 10 * sizeof(std::uint64_t) == m.scratch_bytes);
  }
}
