// Plans against the sizes of a captured graph, and planning again without an allocation.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "core/error.hpp"
#include "planner/planner.hpp"
#include "tests/count_allocations.hpp"

using namespace flashladder;
using namespace flashladder::planner;

namespace {

const std::vector<std::int32_t> kv{100, 0, 33}, qo{2, 1, 1};

PlanInputs captured_inputs() {
  PlanInputs in{.qo_lens = qo, .kv_lens = kv, .num_qo_heads = 4, .num_kv_heads = 2, .page_size = 16};
  in.chunk_align = in.chunk_size = 32;
  in.policy = SplitPolicy::fixed;
  in.machine = {3, 2};
  return in;
}

}  // namespace

TEST_CASE("usage counts every captured size") {
  const PlanInputs in = captured_inputs();
  const CaptureLimits used = usage(make_plan(in), in);
  CHECK(used.batch == 3);
  CHECK(used.nnz_qo == 4);
  CHECK(used.pages == 7 + 0 + 3);
  CHECK(used.items == (4 + 1 + 2) * 2);
  CHECK(used.merges == 2 * 2);
  CHECK(used.partial_rows == (4 * 4 + 2 * 2) * 2);  // 4 chunks of 2 queries * 2 heads, 2 chunks of 1 query * 2 heads
  CHECK(used.num_ctas == 6);
  CHECK(used.mask_words == 0);
}

TEST_CASE("a custom mask is counted in words of 32 keys") {
  PlanInputs in = captured_inputs();
  in.mask = MaskMode::custom;
  const Plan plan = make_plan(in);
  CaptureLimits used = usage(plan, in);
  CHECK(used.mask_words == (2 * 100 + 33 + 4 * 31) / 32);
  --used.mask_words;
  CHECK(exceeds(plan, in, used) == "mask_words 11 exceeds 10");
}

TEST_CASE("a plan fits its own usage and nothing smaller") {
  const PlanInputs in = captured_inputs();
  const Plan plan = make_plan(in);
  const CaptureLimits used = usage(plan, in);
  CHECK(fits(plan, in, used));
  CHECK(fits(plan, in, CaptureLimits{}));
  CHECK(exceeds(plan, in, used) == "");

  const struct {
    std::int64_t CaptureLimits::* size;
    const char* sentence;
  } cases[] = {
      {&CaptureLimits::batch, "batch 3 exceeds 2"},
      {&CaptureLimits::nnz_qo, "nnz_qo 4 exceeds 3"},
      {&CaptureLimits::pages, "pages 10 exceeds 9"},
      {&CaptureLimits::items, "items 14 exceeds 13"},
      {&CaptureLimits::merges, "merges 4 exceeds 3"},
      {&CaptureLimits::partial_rows, "partial_rows 40 exceeds 39"},
      {&CaptureLimits::num_ctas, "num_ctas 6 exceeds 5"},
  };
  for (const auto& c : cases) {
    CaptureLimits tight = used;
    --(tight.*c.size);
    CHECK(exceeds(plan, in, tight) == c.sentence);
    CHECK_FALSE(fits(plan, in, tight));
  }
  CaptureLimits two = used;
  two.items = 8, two.pages = 1;
  CHECK(exceeds(plan, in, two) == "pages 10 exceeds 1; items 14 exceeds 8");
}

TEST_CASE("make_plan refuses what was not captured") {
  PlanInputs in = captured_inputs();
  in.capture = usage(make_plan(in), in);
  CHECK_NOTHROW(make_plan(in));
  const std::vector<std::int32_t> longer{129, 0, 33};
  in.kv_lens = longer;
  CHECK_THROWS_WITH_AS(make_plan(in),
                       "plan = pages 12 exceeds 10; items 16 exceeds 14; partial_rows 48 exceeds 40: "
                       "must stay within the captured limits",
                       InputError);
}

TEST_CASE("planning again into the same Plan allocates nothing") {
  std::vector<std::int32_t> lengths, queries;
  for (std::int32_t b = 0; b < 100; ++b) lengths.push_back(37 * b), queries.push_back(b % 2 ? 1 : 9);
  const std::vector<std::int32_t> decode(100, 1), orders[] = {queries, decode, queries};
  for (SplitPolicy policy : all_policies) {
    CAPTURE(name_of(policy));
    for (const bool claimed : {false, true}) {
      PlanInputs in{.qo_lens = queries, .kv_lens = lengths, .num_qo_heads = 8, .num_kv_heads = 2, .decode_tile = 4,
                    .claimed = claimed, .policy = policy, .chunk_size = 256};
      Plan plan;
      std::size_t before = 0;
      for (int round = 0; round < 2; ++round) {  // with both parts, with the first alone, with both again
        before = allocations;
        for (const std::vector<std::int32_t>& qo_lens : orders) {
          in.qo_lens = qo_lens;
          make_plan(in, plan);
        }
      }
      CHECK(allocations == before);
      CHECK(before > 0);
    }
  }
}

TEST_CASE("planning a prefill again allocates nothing, with a prediction and without") {
  std::vector<std::int32_t> lengths, shuffled;
  for (std::int32_t b = 0; b < 64; ++b) lengths.push_back(17 + 97 * b), shuffled.push_back(17 + 97 * (b * 37 % 64));
  for (const bool predicted : {true, false}) {
    for (SplitPolicy policy : all_policies) {
      PlanInputs in{.qo_lens = lengths, .kv_lens = lengths, .num_qo_heads = 32, .num_kv_heads = 8, .mask = MaskMode::causal,
                    .pack = 1, .claimed = true, .predicted = predicted, .policy = policy, .chunk_size = 1024};
      Plan plan;
      std::size_t before = 0;
      for (int round = 0; round < 2; ++round) {  // each time other lengths, as much work to within an item
        before = allocations;
        for (const auto& order : {std::span<const std::int32_t>(shuffled), std::span<const std::int32_t>(lengths)}) {
          in.qo_lens = in.kv_lens = order;
          make_plan(in, plan);
        }
      }
      CHECK(allocations == before);
      CHECK(plan.num_work() > 1000);
    }
  }
}
