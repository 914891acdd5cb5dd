// A part of one query with queues of its own (PlanInputs::decode_queues), beside a part that is claimed.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "planner/planner.hpp"
#include "tests/bare_plan.hpp"
#include "tests/flat_plan.hpp"
#include "tests/random_batch.hpp"
#include "tests/refusal.hpp"

using namespace flashladder;
using namespace flashladder::planner;
using test::Lengths;
using test::Lines;

namespace {

PlanInputs with_queues(PlanInputs in, std::int32_t queues) {
  in.decode_queues = queues, in.claimed = true, in.predicted = false;
  return in;
}

// The lengths of queries with those of one query, or of all others, left without any.
Lengths only(const Lengths& qo_lens, bool of_one) {
  Lengths kept = qo_lens;
  for (std::int32_t& len : kept) len = (len == 1) == of_one ? len : 0;
  return kept;
}

Lines queue(const PlanPart& part, std::size_t q) {
  Lines lines;
  for (std::int32_t i = part.queue_indptr.at(q); i < part.queue_indptr.at(q + 1); ++i) {
    lines.push_back(test::text(part.work(part.queue.at(static_cast<std::size_t>(i)))));
  }
  return lines;
}

// Items and merges as if their slots began at 0.
PlanPart from_slot(PlanPart part, std::int64_t first) {
  for (WorkItem& item : part.items) item.partial_slot -= item.whole() ? 0 : first;
  for (Merge& merge : part.merges) merge.first_slot -= first;
  return part;
}

std::string same_work(const PlanPart& a, const PlanPart& b) {
  if (a.items != b.items) return "items";
  if (a.merges != b.merges) return "merges";
  if (a.copies != b.copies || a.partial_rows != b.partial_rows) return "copies or partial rows";
  return a.query_tile == b.query_tile && a.pack == b.pack ? "" : "tiles";
}

}  // namespace

TEST_CASE("decode_queues: equal shares of the requests of one query, and the others are claimed") {
  const Lengths qo{1, 3, 1, 0, 1}, kv{10, 9, 4, 8, 6};  // 20 keys of decodes, for each of two KV heads
  PlanInputs in = with_queues(test::bare({.qo_lens = qo, .kv_lens = kv, .num_qo_heads = 4, .num_kv_heads = 2, .query_tile = 4,
                                          .decode_tile = 2}, SplitPolicy::none, 7), 4);
  in.decode_cost.per_item = 0;
  const Plan plan = make_plan(in);
  REQUIRE(plan.parts.size() == 2);
  const PlanPart &decode = plan.parts[0], &others = plan.parts[1];
  CHECK_FALSE(decode.claimed);
  CHECK(decode.queue_indptr.size() == 5);  // as many as it was asked for, whatever the machine has
  CHECK(queue(decode, 0) == Lines{"0 0 [0,2) [0,10)"});
  CHECK(queue(decode, 1) == Lines{"0 1 [0,2) [0,10)"});
  CHECK(queue(decode, 2) == Lines{"2 0 [0,2) [0,4)", "4 0 [0,2) [0,6)"});
  CHECK(queue(decode, 3) == Lines{"2 1 [0,2) [0,4)", "4 1 [0,2) [0,6)"});
  CHECK(others.claimed);
  CHECK(others.queue.empty());
  CHECK(others.queue_indptr == Lengths(8, 0));
  CHECK(others.num_work() == 4);  // two tiles of two heads
  CHECK(plan.num_ctas() == 7);
  CHECK(plan.total_cost == 0);  // of the CTAs nobody keeps an account
  in.decode_queues = 3;
  const Plan uneven = make_plan(in);
  CHECK(uneven.parts[0].num_merges() > 0);
  CHECK(uneven.parts[1].items == make_plan(in).parts[1].items);
}

TEST_CASE("a CTA is idle that has work of no part") {
  const Lengths qo{1, 5}, kv{10, 9};
  const PlanInputs in = test::bare({.qo_lens = qo, .kv_lens = kv, .query_tile = 8, .decode_tile = 1}, SplitPolicy::none, 3);
  CHECK(summarize(make_plan(in)).idle_ctas == 1);
}

TEST_CASE("decode_queues: decode_cost is the queues', and cost that of the others") {
  const Lengths qo{1, 5, 1}, kv{4096, 64, 64};
  PlanInputs in = with_queues({.qo_lens = qo, .kv_lens = kv, .num_qo_heads = 4, .num_kv_heads = 1, .query_tile = 16,
                               .decode_tile = 4, .policy = SplitPolicy::none}, 4);
  in.decode_cost.per_item = 0;
  const Plan cheap = make_plan(in);
  in.decode_cost.per_item = 4096;
  const Plan dear = make_plan(in);
  CHECK(dear.parts[0].num_work() < cheap.parts[0].num_work());
  in.cost.per_item = 4096;
  CHECK(make_plan(in).parts[0] == dear.parts[0]);
}

TEST_CASE("decode_queues: each part is the plan of its requests alone, in 3000 random batches") {
  Plan reused;
  std::size_t cut = 0, both = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    test::Batch batch = test::random_batch(seed);
    if (batch.qo_lens.empty()) continue;
    CAPTURE(seed);
    CAPTURE(name_of(batch.in.policy));
    const auto queues = static_cast<std::int32_t>(1 + seed * 2654435761u % 50);
    batch.in.decode_tile = std::max(batch.in.decode_tile, 1);
    batch.in.qo_lens = batch.qo_lens;
    batch.in.decode_cost = {.per_item = static_cast<double>(seed % 30), .memory_bound_rows = 128};
    const PlanInputs in = with_queues(batch.in, queues);
    const Plan plan = make_plan(in);
    REQUIRE(plan.parts.size() == 2);

    const Lengths of_one = only(batch.qo_lens, true), others = only(batch.qo_lens, false);
    PlanInputs alone = batch.in;
    alone.qo_lens = of_one, alone.policy = SplitPolicy::balanced, alone.claimed = false;
    alone.machine = {queues, 1}, alone.cost = in.decode_cost;
    const PlanPart decode = make_plan(alone).parts[0];
    REQUIRE(same_work(plan.parts[0], decode) == "");
    REQUIRE(plan.parts[0].queue == decode.queue);
    REQUIRE(plan.parts[0].queue_indptr == decode.queue_indptr);

    if (in.policy != SplitPolicy::count && in.policy != SplitPolicy::target) {  // whose chunks know the whole batch
      alone = in;
      alone.qo_lens = others, alone.decode_tile = alone.decode_queues = 0;
      const std::int64_t first = plan.parts[0].partial_rows * plan.parts[0].copies;
      REQUIRE(same_work(from_slot(plan.parts[1], first), make_plan(alone).parts[0]) == "");
    }
    REQUIRE(plan.partial_rows == plan.parts[0].partial_rows * plan.parts[0].copies +
                                     plan.parts[1].partial_rows * plan.parts[1].copies);
    REQUIRE(std::ranges::all_of(plan.cta_cost, [](float cost) { return cost == 0; }));
    make_plan(in, reused);
    REQUIRE((plan == reused));
    cut += !plan.parts[0].merges.empty();
    both += !plan.parts[0].items.empty() && !plan.parts[1].items.empty();
  }
  CHECK(cut > 300);
  CHECK(both > 500);
}

TEST_CASE("decode_queues: refusals") {
  const Lengths qo{1, 5}, kv{100, 100};
  const PlanInputs good = with_queues({.qo_lens = qo, .kv_lens = kv, .num_qo_heads = 4, .num_kv_heads = 1, .decode_tile = 4},
                                      6);
  const auto with = [&](auto change) {
    PlanInputs changed = good;
    change(changed);
    return test::refusal([&] { make_plan(changed); });
  };
  const std::string unless = "decode_queues = 6: must be 0, unless there is a decode_tile and the others' work is claimed";
  CHECK(with([](PlanInputs&) {}) == "accepted");
  CHECK(with([](PlanInputs& in) { in.decode_queues = 1 << 20; }) == "accepted");
  CHECK(with([](PlanInputs& in) { in.decode_queues = -1; }).find("decode_queues = -1: must be 0 .. 2^20") == 0);
  CHECK(with([](PlanInputs& in) { in.decode_queues = (1 << 20) + 1; }).find("decode_queues = 1048577: must be") == 0);
  CHECK(with([](PlanInputs& in) { in.decode_tile = 0; }).find(unless) == 0);
  CHECK(with([](PlanInputs& in) { in.predicted = true; }).find(unless) == 0);
  CHECK(with([](PlanInputs& in) { in.claimed = false, in.predicted = true; }).find(unless) == 0);
  CHECK(with([](PlanInputs& in) { in.decode_queues = 0; }).find("predicted = 0: must be on, unless claimed is on") == 0);
  const Lengths many{1, (1 << 26) - 6};
  CHECK(with([&](PlanInputs& in) {
          in.qo_lens = many, in.num_qo_heads = 1, in.decode_tile = in.query_tile = 1, in.policy = SplitPolicy::none;
        }).find("work items = 67108865: must be at most 2^26") == 0);  // with a cut between every two queues
  CHECK(with([](PlanInputs& in) { in.decode_cost.per_item = -1; }).find("cost.per_item = -1: must be 0 .. 1e9") == 0);
}
