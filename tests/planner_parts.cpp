// Parts, packing and claims worked out by hand, and lengths near 2^31.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/row.hpp"
#include "planner/planner.hpp"
#include "tests/bare_plan.hpp"
#include "tests/flat_plan.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::planner;
using test::FlatPlan;
using test::Lengths;
using test::Lines;
using test::texts;

namespace {

// Two KV heads of two query heads each.
PlanInputs bare(const Lengths& qo_lens, const Lengths& kv_lens, SplitPolicy policy, std::int32_t num_ctas) {
  return test::bare({.qo_lens = qo_lens, .kv_lens = kv_lens, .num_qo_heads = 4, .num_kv_heads = 2}, policy, num_ctas);
}

}  // namespace

TEST_CASE("packed rows: heads of a group side by side or a head by itself") {
  static_assert(row_of(1, 5, 2) == RowPlace{2, 3});  // KV head 1 of groups of 2: query 2, query head 3
  static_assert(row_of(3, 5, 1) == RowPlace{5, 3});
  static_assert(kv_head_of(1, 2, 2) == 1);
  static_assert(kv_head_of(3, 1, 2) == 1);
  for (const std::int32_t pack : {1, 4}) {  // group 4, 3 KV heads, 5 queries: every row once, and in the right KV head
    std::vector<int> seen(5 * 12);
    for (std::int32_t head = 0; head < 12 / pack; ++head) {
      for (std::int32_t row = 0; row < 5 * pack; ++row) {
        const RowPlace at = row_of(head, row, pack);
        ++seen.at(at.query * 12 + at.qo_head);
        CHECK(kv_head_of(head, pack, 4) == at.qo_head / 4);
      }
    }
    CHECK(seen == std::vector<int>(5 * 12, 1));
  }
}

TEST_CASE("unpacked: tiles of one query head each") {
  const Lengths qo{3}, kv{5};
  PlanInputs in = bare(qo, kv, SplitPolicy::none, 4);
  in.pack = 1, in.query_tile = 2, in.mask = MaskMode::causal;
  const Plan plan = make_plan(in);
  CHECK(texts(plan) == Lines{"0 0 [0,2) [0,4)", "0 1 [0,2) [0,4)", "0 2 [0,2) [0,4)", "0 3 [0,2) [0,4)",
                             "0 0 [2,3) [0,5)", "0 1 [2,3) [0,5)", "0 2 [2,3) [0,5)", "0 3 [2,3) [0,5)"});
  CHECK(plan.parts[0].items.size() == 2);
  CHECK(plan.num_heads(plan.parts[0]) == 4);
}

TEST_CASE("requests of one query are a part of their own with tiles of their own") {
  const Lengths qo{1, 4, 0, 1}, kv{6, 9, 7, 2};
  PlanInputs in = bare(qo, kv, SplitPolicy::fixed, 4);
  in.chunk_size = 4, in.query_tile = 8, in.decode_tile = 2;
  const Plan plan = make_plan(in);
  REQUIRE(plan.parts.size() == 2);
  CHECK(plan.parts[0].query_tile == 2);
  CHECK(plan.parts[1].query_tile == 8);
  // Each head's slots lie together: part 0 has 4 rows a head, part 1, behind it, 24.
  CHECK(texts(plan) == Lines{"0 0 [0,2) [0,4) @0", "0 0 [0,2) [4,6) @2", "0 1 [0,2) [0,4) @4", "0 1 [0,2) [4,6) @6",
                             "3 0 [0,2) [0,2)", "3 1 [0,2) [0,2)",
                             "1 0 [0,8) [0,4) @8", "1 0 [0,8) [4,8) @16", "1 0 [0,8) [8,9) @24",
                             "1 1 [0,8) [0,4) @32", "1 1 [0,8) [4,8) @40", "1 1 [0,8) [8,9) @48"});
  CHECK(plan.partial_rows == 8 + 48);
  CHECK(plan.parts[1].merges == std::vector<Merge>{{1, 0, {0, 8}, 8, 3}});
  CHECK(plan.parts[1].merge(1) == Merge{1, 1, {0, 8}, 32, 3});
  CHECK(plan.parts[1].work(5).merge == 1);
  // Part 0, keys 4 2 4 2 2 2 on CTAs 0 1 2 3 1 3; part 1, keys 4 4 1 4 4 1, goes on from loads of 4 each.
  CHECK(FlatPlan(plan).queues == std::vector<Lengths>{{0, 6, 11}, {1, 4, 7}, {2, 8, 10}, {3, 5, 9}});
  CHECK(plan.cta_cost == std::vector<float>{9, 8, 9, 8});
}

TEST_CASE("balanced: the second part levels what the first left uneven") {
  const Lengths qo{1, 1, 3}, kv{15, 15, 370};  // 400 keys on 4 CTAs
  PlanInputs in = bare(qo, kv, SplitPolicy::balanced, 4);
  in.num_qo_heads = in.num_kv_heads = 1, in.decode_tile = 1, in.chunk_align = 8;
  const Plan plan = make_plan(in);  // the first part's tiles can't be cut: 15 keys each on CTAs 0 and 1
  CHECK(plan.parts[0].queue_indptr == Lengths{0, 1, 2, 2, 2});
  CHECK(plan.makespan <= 104);
  in.num_qo_heads = in.num_kv_heads = 2, in.machine.num_sms = 8;  // and so for each of two heads, on CTAs of its own
  const Plan two = make_plan(in);
  CHECK(two.parts[1].copies == 2);
  CHECK(two.makespan <= 104);
  in.decode_tile = 0;
  CHECK(make_plan(in).parts.size() == 1);
}

TEST_CASE("even: each part is cut among all CTAs by itself") {
  const Lengths qo{1, 3}, kv{40, 80};
  PlanInputs in = bare(qo, kv, SplitPolicy::even, 4);
  in.num_qo_heads = in.num_kv_heads = 1, in.decode_tile = 1, in.chunk_align = 10;
  const Plan plan = make_plan(in);
  CHECK(plan.parts[0].queue_indptr == Lengths{0, 1, 2, 3, 4});
  CHECK(plan.parts[1].queue_indptr == Lengths{0, 1, 2, 3, 4});
  CHECK(plan.cta_cost == std::vector<float>{30, 30, 30, 30});
}

TEST_CASE("balanced: what can't be cut goes where there is room") {
  const Lengths qo{1, 1, 2, 2}, kv{60, 60, 60, 60};
  PlanInputs in = bare(qo, kv, SplitPolicy::balanced, 4);
  in.num_qo_heads = in.num_kv_heads = 1, in.decode_tile = 1, in.chunk_align = 31;
  CHECK(make_plan(in).cta_cost == std::vector<float>{60, 60, 60, 60});
}

TEST_CASE("claimed work is sorted: the costliest first and equal ones as they were") {
  const Lengths qo{1, 1, 1, 1}, kv{3, 9, 3, 5};
  PlanInputs in = bare(qo, kv, SplitPolicy::fixed, 2);
  in.num_qo_heads = in.num_kv_heads = 2, in.chunk_size = 6, in.claimed = true;
  const Plan plan = make_plan(in);
  CHECK(plan.parts[0].claimed);
  CHECK(texts(plan) == Lines{"1 0 [0,1) [0,6) @0", "1 1 [0,1) [0,6) @2", "3 0 [0,1) [0,5)", "3 1 [0,1) [0,5)",
                             "0 0 [0,1) [0,3)", "0 1 [0,1) [0,3)", "1 0 [0,1) [6,9) @1", "1 1 [0,1) [6,9) @3",
                             "2 0 [0,1) [0,3)", "2 1 [0,1) [0,3)"});
  CHECK(plan.cta_cost == std::vector<float>{20, 20});
}

TEST_CASE("claimed work is sorted whatever the costs: short and very long requests, and fractions of a key") {
  Lengths qo, kv;
  for (std::uint32_t i = 0; i < 3000; ++i) {
    qo.push_back(static_cast<std::int32_t>(1 + i % 7));
    kv.push_back(static_cast<std::int32_t>(i * 2654435761u >> (1 + i % 31)));
  }
  for (const double memory_bound_rows : {128.0, 1.7}) {
    PlanInputs in = bare(qo, kv, SplitPolicy::none, 2);
    in.claimed = true, in.query_tile = 16, in.cost.memory_bound_rows = memory_bound_rows;
    const Plan plan = make_plan(in);
    const std::vector<WorkItem>& items = plan.parts[0].items;
    const auto cost = [&](const WorkItem& item) {
      return static_cast<float>(in.cost.item(item.rows.size(), item.keys.size()));
    };
    int wrong = 0;
    for (std::size_t i = 1; i < items.size(); ++i) {
      const float before = cost(items[i - 1]), now = cost(items[i]);
      wrong += !(before > now || (before == now && items[i - 1].request < items[i].request));
    }
    CHECK(items.size() == 3000);
    CHECK(wrong == 0);
  }
}

TEST_CASE("claimed work without a prediction is the same work") {
  const Lengths qo{1, 300, 0, 77}, kv{5000, 300, 9, 900};
  for (const SplitPolicy policy : all_policies) {
    PlanInputs in{.qo_lens = qo, .kv_lens = kv, .num_qo_heads = 4, .num_kv_heads = 2, .mask = MaskMode::causal,
                  .claimed = true, .policy = policy, .chunk_size = 256};
    const Plan predicted = make_plan(in);
    in.predicted = false;
    const Plan plan = make_plan(in);
    CHECK(plan.parts[0].items == predicted.parts[0].items);
    CHECK(plan.parts[0].merges == predicted.parts[0].merges);
    CHECK(plan.partial_rows == predicted.partial_rows);
    CHECK(plan.num_ctas() == predicted.num_ctas());
    CHECK(plan.parts[0].queue.empty());
    CHECK(plan.total_cost == 0);
    CHECK(predicted.total_cost > 0);
  }
  PlanInputs in = bare(qo, kv, SplitPolicy::none, 2);
  in.predicted = false;
  CHECK_THROWS_WITH_AS(make_plan(in), doctest::Contains("predicted = 0: must be on, unless claimed is on"), InputError);
  in.claimed = true, in.decode_tile = 2;
  CHECK_THROWS_WITH_AS(make_plan(in), doctest::Contains("predicted = 0: must be on, unless claimed is on"), InputError);
}

TEST_CASE("pieces of a tile of many cost more and are as even") {
  const Lengths qo{1}, kv{131072};
  PlanInputs in{.qo_lens = qo, .kv_lens = kv, .num_qo_heads = 1, .num_kv_heads = 1, .query_tile = 1};
  in.machine = {264, 1};
  in.cost.per_many = 512;
  // However dear a piece is, the last CTA is not left with what the others had no room for: all have about as many keys.
  CHECK(make_plan(in).makespan < 131072.0 / 264 + in.cost.per_item + in.chunk_align);
}

TEST_CASE("no sum overflows with the longest sequences") {
  constexpr std::int32_t longest = std::numeric_limits<std::int32_t>::max();
  for (const SplitPolicy policy : all_policies) {
    for (const std::int32_t window : {-1, 0, 99, longest}) {
      for (const std::int32_t page_size : {1, 16, longest}) {
        for (const bool claimed : {false, true}) {
          const Lengths qo{1, 3}, kv{longest, longest};
          PlanInputs in = bare(qo, kv, policy, 7);
          in.cost = {};
          in.chunk_align = 64, in.chunk_size = 1 << 30, in.window_left = window, in.page_size = page_size;
          in.mask = MaskMode::causal, in.decode_tile = 2, in.claimed = claimed, in.target_units = 1;
          const Plan plan = make_plan(in);
          CAPTURE(name_of(policy));
          CAPTURE(window);
          std::int64_t keys = 0, backwards = 0;
          for (const PlanPart& part : plan.parts) {
            for (const WorkItem& item : part.items) {
              backwards += item.keys.begin < 0 || item.keys.end < item.keys.begin;
              keys += std::int64_t{part.copies} * item.keys.size();
            }
          }
          CHECK(backwards == 0);
          const std::int64_t of_one = window < 0 || window == longest ? longest : window + 1;
          const std::int64_t of_three = window < 0 || window == longest ? longest : window + 3;
          CHECK(keys == 2 * (of_one + of_three));
          const std::int64_t pages_of_one = page_size == 1 ? longest : page_size == 16 ? 134217728 : 1;
          CHECK(usage(plan, in).pages == 2 * pages_of_one);
        }
      }
    }
  }
}

TEST_CASE("too much work is refused before it is counted in full") {
  constexpr std::int32_t longest = std::numeric_limits<std::int32_t>::max();
  const Lengths qo(50, longest / 2), kv(50, longest);
  PlanInputs in = bare(qo, kv, SplitPolicy::fixed, 7);
  in.query_tile = 1, in.chunk_size = 1;
  CHECK(test::refusal([&] { make_plan(in); }).find("work items = ") == 0);
}

TEST_CASE("bad parts and costs are refused") {
  const Lengths qo{1}, kv{100};
  const PlanInputs good = bare(qo, kv, SplitPolicy::balanced, 4);
  const auto with = [&](auto change) {
    PlanInputs changed = good;
    change(changed);
    return test::refusal([&] { make_plan(changed); });
  };
  CHECK(with([](PlanInputs& in) { in.pack = 2; }) == "accepted");
  CHECK(with([](PlanInputs& in) { in.pack = 3; }).find("pack = 3: must be 1 or the group size") == 0);
  CHECK(with([](PlanInputs& in) { in.decode_tile = -1; }).find("decode_tile = -1: must be at least 1") == 0);
  CHECK(with([](PlanInputs& in) { in.cost.per_item = 1e308; }).find("cost.per_item = 1e+308: must be 0 .. 1e9") == 0);
  CHECK(with([](PlanInputs& in) { in.cost.per_many = HUGE_VAL; }).find("cost.per_many = inf: must be 0 .. 1e9") == 0);
  CHECK(with([](PlanInputs& in) { in.cost.few_partials = NAN; }).find("cost.few_partials = nan") == 0);
  CHECK(with([](PlanInputs& in) { in.cost.memory_bound_rows = 1e-308; }).find("cost.memory_bound_rows = 1e-308") == 0);
}
