// Plans worked out by hand, one or two for each policy, and the user's decode sample. Items are compared as text:
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "core/error.hpp"
#include "planner/planner.hpp"
#include "tests/bare_plan.hpp"
#include "tests/flat_plan.hpp"

using namespace flashladder;
using namespace flashladder::planner;
using test::FlatPlan;
using test::Lengths;
using test::Lines;
using test::texts;

namespace {

PlanInputs bare(const Lengths& kv_lens, SplitPolicy policy, std::int32_t num_ctas) {
  return test::bare({.kv_lens = kv_lens}, policy, num_ctas);
}

const Lengths sample_lengths{512, 1024, 2048, 4096, 512, 512, 1024, 2048, 512, 1024, 1024, 2048, 4096, 8192, 8192, 16384};

std::string refusal(const PlanInputs& in) {
  try {
    make_plan(in);
  } catch (const InputError& error) {
    return error.argument + "/" + error.value + "/" + std::to_string(error.request);
  }
  return "accepted";
}

}  // namespace

TEST_CASE("golden: target on the sample of sixteen decode requests") {
  PlanInputs in{.kv_lens = sample_lengths, .num_qo_heads = 32, .num_kv_heads = 32, .policy = SplitPolicy::target};
  const Plan plan = make_plan(in);
  const PlanSummary s = summarize(plan);
  CHECK(plan.chunk_size == 4096);
  CHECK(s.items == 672);
  CHECK(s.tier_counts == std::array<std::int64_t, 4>{128, 128, 96, 320});
  CHECK(s.tiles == 512);
  CHECK(s.chunks_min == 1);
  CHECK(s.chunks_max == 4);
  CHECK(s.chunks_avg == doctest::Approx(1.3125));
  const std::vector<WorkItem> items = FlatPlan(plan).items();
  CHECK(to_string(items[0]) == "req=0 head=0 kv=[0,512) tier=0 flags=0x03");
  CHECK(to_string(items.back()) == "req=15 head=31 kv=[12288,16384) tier=3 flags=0x02");
  CHECK(plan.num_merges() == 3 * 32);
  CHECK(plan.partial_rows == (2 + 2 + 4) * 32);
  CHECK(plan.workspace_bytes() == 256 * (64 + 1) * 4);
  // What a key costs is what it costs everywhere; only the 672 items' overhead is added.
  CHECK(plan.total_cost == doctest::Approx(53248 * 32 + 672 * in.cost.per_item));
}

TEST_CASE("golden: target takes the largest tier with enough units and 512 if none has") {
  PlanInputs in{.kv_lens = sample_lengths, .num_qo_heads = 32, .num_kv_heads = 32, .policy = SplitPolicy::target};
  const auto chunk_for = [&](std::int64_t units) {
    in.target_units = units;
    return make_plan(in).chunk_size;
  };
  CHECK(chunk_for(672) == 4096);  // per head: 21 items of 4096, 31 of 2048, 54 of 1024, 104 of 512
  CHECK(chunk_for(673) == 2048);
  CHECK(chunk_for(31 * 32) == 2048);
  CHECK(chunk_for(31 * 32 + 1) == 1024);
  CHECK(chunk_for(104 * 32) == 512);
  CHECK(chunk_for(104 * 32 + 1) == 512);
}

TEST_CASE("golden: none gives one item a tile and the queues of a list schedule") {
  const Lengths kv{5, 3, 4, 0, 1};
  const Plan plan = make_plan(bare(kv, SplitPolicy::none, 2));
  CHECK(texts(plan) == Lines{"0 0 [0,1) [0,5)", "1 0 [0,1) [0,3)", "2 0 [0,1) [0,4)", "3 0 [0,1) [0,0)", "4 0 [0,1) [0,1)"});
  // 5 -> CTA 0; 3 -> CTA 1; 4 -> CTA 1 (3 < 5), now 7; 0 and 1 -> CTA 0, which ends at 6
  CHECK(plan.parts[0].queue_indptr == Lengths{0, 3, 5});
  CHECK(plan.parts[0].queue == Lengths{0, 3, 4, 1, 2});
  CHECK(plan.cta_cost == std::vector<float>{6, 7});
  CHECK(plan.total_cost == 13);
  CHECK(plan.makespan == 7);
  CHECK(plan.chunk_size == 0);
  CHECK(plan.workspace_bytes() == 0);
  CHECK(summarize(plan).utilisation == doctest::Approx(13.0 / 14));
  CHECK(summarize(plan).tail == doctest::Approx(0.5));
}

TEST_CASE("golden: fixed cuts every chunk and numbers the partials in key order") {
  const Lengths kv{10, 4};
  PlanInputs in = bare(kv, SplitPolicy::fixed, 4);
  in.chunk_size = 4;
  in.num_qo_heads = 6, in.num_kv_heads = 2, in.head_dim_vo = 8;  // decode tiles of 3 rows
  const Plan plan = make_plan(in);
  CHECK(texts(plan) == Lines{"0 0 [0,3) [0,4) @0", "0 0 [0,3) [4,8) @3", "0 0 [0,3) [8,10) @6",
                             "0 1 [0,3) [0,4) @9", "0 1 [0,3) [4,8) @12", "0 1 [0,3) [8,10) @15",
                             "1 0 [0,3) [0,4)", "1 1 [0,3) [0,4)"});
  CHECK(FlatPlan(plan).merges == std::vector<Merge>{{0, 0, {0, 3}, 0, 3}, {0, 1, {0, 3}, 9, 3}});
  CHECK(plan.partial_rows == 18);
  CHECK(plan.workspace_bytes() == 18 * (8 + 1) * 4);
  const std::vector<WorkItem> items = FlatPlan(plan).items();
  CHECK(items[0].flags == WorkItem::first);
  CHECK(items[1].flags == 0);
  CHECK(items[2].flags == WorkItem::last);
  CHECK(items[6].flags == (WorkItem::first | WorkItem::last));
  CHECK(plan.parts.size() == 1);
  CHECK(plan.parts[0].copies == 2);
  CHECK(plan.parts[0].items.size() == 4);  // those of one head
}

TEST_CASE("golden: a window moves the first key and cuts stay aligned") {
  const Lengths kv{100};
  PlanInputs in = bare(kv, SplitPolicy::fixed, 4);
  in.chunk_align = 16, in.chunk_size = 16, in.window_left = 29;  // sees [70, 100)
  CHECK(texts(make_plan(in)) == Lines{"0 0 [0,1) [70,80) @0", "0 0 [0,1) [80,96) @1", "0 0 [0,1) [96,100) @2"});
}

TEST_CASE("golden: packed causal prefill trims each tile and a custom mask does not") {
  const Lengths qo{3, 0, 4}, kv{5, 7, 2};
  PlanInputs in = bare(kv, SplitPolicy::none, 4);
  in.qo_lens = qo, in.num_qo_heads = 2, in.query_tile = 4, in.mask = MaskMode::causal;
  // Request 0: rows 0..3 are queries 0 and 1, which end at keys 3 and 4. Request 2: queries 0 and 1 stand left of key 0.
  CHECK(texts(make_plan(in)) == Lines{"0 0 [0,4) [0,4)", "0 0 [4,6) [0,5)", "2 0 [0,4) [0,0)", "2 0 [4,8) [0,2)"});
  in.mask = MaskMode::custom;
  CHECK(texts(make_plan(in)) == Lines{"0 0 [0,4) [0,5)", "0 0 [4,6) [0,5)", "2 0 [0,4) [0,2)", "2 0 [4,8) [0,2)"});
  in.mask = MaskMode::causal, in.window_left = 1;  // request 0 stands on keys 2, 3 and 4
  CHECK(texts(make_plan(in)) == Lines{"0 0 [0,4) [1,4)", "0 0 [4,6) [3,5)", "2 0 [0,4) [0,0)", "2 0 [4,8) [0,2)"});
}

TEST_CASE("golden: count takes the smallest chunk that fits the grid") {
  const Lengths kv{1024, 256};
  PlanInputs in = bare(kv, SplitPolicy::count, 8);
  in.chunk_align = 64;
  CHECK(make_plan(in).chunk_size == 192);  // 128: 8 + 2 items; 192: 6 + 2
  CHECK(make_plan(in).num_work() == 8);
  in.machine = {100, 1};
  CHECK(make_plan(in).chunk_size == 128);  // no smaller than min_chunk
  in.min_chunk = 130;
  CHECK(make_plan(in).chunk_size == 192);  // rounded up to chunk_align
  in.machine = {2, 1};
  CHECK(make_plan(in).chunk_size == 0);    // two tiles fill two CTAs
}

TEST_CASE("golden: count counts empty requests - the batch that overflows FlashInfer's graph slots") {
  Lengths kv(116, 0);
  for (int b = 0; b < 16; ++b) kv[b] = 2048 * 16;
  PlanInputs in{.kv_lens = kv, .num_qo_heads = 8, .num_kv_heads = 8, .policy = SplitPolicy::count, .machine = {132, 8}};
  const Plan plan = make_plan(in);
  CHECK(plan.chunk_size == 16384);  // 32 of the 132 items a head are left for the 16 long requests
  CHECK(plan.num_work() == 1056);
}

TEST_CASE("golden: balanced gives every CTA an equal stretch of the line") {
  const Lengths one{400}, two{50, 350};
  PlanInputs in = bare(one, SplitPolicy::balanced, 4);
  in.chunk_align = 10;
  const Plan plan = make_plan(in);
  CHECK(texts(plan) == Lines{"0 0 [0,1) [0,100) @0", "0 0 [0,1) [100,200) @1", "0 0 [0,1) [200,300) @2",
                             "0 0 [0,1) [300,400) @3"});
  CHECK(plan.parts[0].queue_indptr == Lengths{0, 1, 2, 3, 4});
  CHECK(plan.cta_cost == std::vector<float>{100, 100, 100, 100});
  CHECK(plan.chunk_size == 100);
  in.kv_lens = two;
  const Plan uneven = make_plan(in);
  CHECK(texts(uneven) == Lines{"0 0 [0,1) [0,50)", "1 0 [0,1) [0,50) @0", "1 0 [0,1) [50,150) @1", "1 0 [0,1) [150,250) @2",
                               "1 0 [0,1) [250,350) @3"});
  CHECK(uneven.parts[0].queue_indptr == Lengths{0, 2, 3, 4, 5});
}

TEST_CASE("golden: balanced leaves CTAs idle rather than cut slivers") {
  const Lengths kv{190, 5};
  PlanInputs in = bare(kv, SplitPolicy::balanced, 100);
  in.chunk_align = 64;
  // [128, 190) would be shorter than chunk_align, so the second piece keeps it.
  CHECK(texts(make_plan(in)) == Lines{"0 0 [0,1) [0,64) @0", "0 0 [0,1) [64,190) @1", "1 0 [0,1) [0,5)"});
}

TEST_CASE("golden: even cuts where equal shares of the line's cost end") {
  const Lengths two{50, 350}, three{30, 0, 100}, of_heads{8};
  PlanInputs in = bare(two, SplitPolicy::even, 4);
  in.chunk_align = 10;
  const Plan plan = make_plan(in);  // shares end at 100, 200 and 300, of which 50 lie before request 1
  CHECK(texts(plan) == Lines{"0 0 [0,1) [0,50)", "1 0 [0,1) [0,50) @0", "1 0 [0,1) [50,150) @1", "1 0 [0,1) [150,250) @2",
                             "1 0 [0,1) [250,350) @3"});
  CHECK(plan.parts[0].queue_indptr == Lengths{0, 2, 3, 4, 5});
  CHECK(plan.chunk_size == 100);
  // Costs 50, 20 and 120. The first share ends at 63.3, in what request 1 costs beside its keys: it is the second lane's. The
  // next at 126.7, with 36.7 keys of request 2 before it: 40 is the nearest multiple of 8.
  in = bare(three, SplitPolicy::even, 3);
  in.chunk_align = 8, in.cost.per_item = 20;
  CHECK(texts(make_plan(in)) == Lines{"0 0 [0,1) [0,30)", "1 0 [0,1) [0,0)", "2 0 [0,1) [0,40) @0", "2 0 [0,1) [40,100) @1"});
  CHECK(make_plan(in).cta_cost == std::vector<float>{50, 80, 80});
  // Three heads on two CTAs are one line of 24 keys.
  in = bare(of_heads, SplitPolicy::even, 2);
  in.num_qo_heads = in.num_kv_heads = 3;
  CHECK(texts(make_plan(in)) == Lines{"0 0 [0,1) [0,8)", "0 1 [0,1) [0,4) @0", "0 1 [0,1) [4,8) @1", "0 2 [0,1) [0,8)"});
}

TEST_CASE("golden: even cuts nothing where whole tiles are as level") {
  const Lengths five(5, 100);
  PlanInputs in = bare(five, SplitPolicy::even, 3);
  in.chunk_align = 20, in.cost.per_item = 15;
  // Two tiles a lane cost 230, and an even share with a cut in it 115 * 5 / 3 + 15 + 20 = 226.7.
  CHECK(make_plan(in).chunk_size > 0);
  in.chunk_align = 24;  // 230.7
  const Plan whole = make_plan(in);
  CHECK(whole.chunk_size == 0);
  CHECK(whole.parts[0].queue_indptr == Lengths{0, 2, 4, 5});
  CHECK(whole.cta_cost == std::vector<float>{230, 230, 115});
}

TEST_CASE("golden: even leaves lanes idle where they would begin at one cut or with a sliver") {
  const Lengths one{100}, four_pieces{256};
  PlanInputs in = bare(one, SplitPolicy::even, 3);
  in.chunk_align = 64;
  const Plan whole = make_plan(in);  // behind a cut at 64 only 36 keys would lie
  CHECK(texts(whole) == Lines{"0 0 [0,1) [0,100)"});
  CHECK(whole.parts[0].queue_indptr == Lengths{0, 1, 1, 1});
  in.kv_lens = four_pieces, in.machine.num_sms = 8;  // a lane every 32 keys, two at each multiple of 64
  const Plan plan = make_plan(in);
  CHECK(texts(plan) == Lines{"0 0 [0,1) [0,64) @0", "0 0 [0,1) [64,128) @1", "0 0 [0,1) [128,192) @2",
                             "0 0 [0,1) [192,256) @3"});
  CHECK(plan.parts[0].queue_indptr == Lengths{0, 1, 1, 2, 2, 3, 3, 4, 4});
}

TEST_CASE("golden: even is level on a skewed batch") {
  Lengths kv(32, 4096);
  kv[7] = 65536;
  PlanInputs in{.kv_lens = kv, .num_qo_heads = 32, .num_kv_heads = 8, .policy = SplitPolicy::even};
  CHECK(summarize(make_plan(in)).utilisation > 0.98);
}

TEST_CASE("golden: keys at the end of the longest sequence") {
  const Lengths kv{2147483647};
  for (SplitPolicy policy : all_policies) {
    PlanInputs in = bare(kv, policy, 4);
    in.chunk_align = in.chunk_size = 512, in.window_left = 599;  // sees the last 600 keys, across one multiple of 512
    const Plan plan = make_plan(in);
    CAPTURE(name_of(policy));
    CHECK(plan.parts[0].items.front().keys.begin == 2147483047);
    CHECK(plan.parts[0].items.back().keys.end == 2147483647);
    CHECK(plan.total_cost == 600);
    const bool cut = policy == SplitPolicy::fixed || policy == SplitPolicy::count || policy == SplitPolicy::target;
    CHECK(plan.num_work() == (cut ? 2 : 1));
  }
}

TEST_CASE("golden: an empty batch has an empty plan") {
  for (SplitPolicy policy : all_policies) {
    PlanInputs in = bare({}, policy, 3);
    in.chunk_size = 64;
    const Plan plan = make_plan(in);
    CHECK(plan.num_work() == 0);
    CHECK(plan.parts[0].queue_indptr == Lengths{0, 0, 0, 0});
    CHECK(summarize(plan).idle_ctas == 3);
    CHECK(summarize(plan).utilisation == 0);
  }
}

TEST_CASE("policies are found by name and others are refused with the list") {
  for (SplitPolicy policy : all_policies) CHECK(split_policy_from(name_of(policy)) == policy);
  CHECK_THROWS_WITH_AS(split_policy_from("best"), "policy = best: must be none, fixed, count, target, balanced or even",
                       InputError);
}

TEST_CASE("bad plan inputs are refused with argument and value and request") {
  const Lengths kv{64, -1}, qo{-2, 1}, long_qo{1, 1 << 30}, good{64, 64}, one{1};
  PlanInputs in{.kv_lens = good, .num_qo_heads = 4, .num_kv_heads = 2};
  CHECK(refusal(in) == "accepted");
  const auto with = [&](auto change) {
    PlanInputs changed = in;
    change(changed);
    return refusal(changed);
  };
  CHECK(with([&](PlanInputs& p) { p.kv_lens = kv; }) == "kv_lens/-1/1");
  CHECK(with([&](PlanInputs& p) { p.qo_lens = qo; }) == "qo_lens/-2/0");
  CHECK(with([&](PlanInputs& p) { p.qo_lens = long_qo; }) == "qo_lens/1073741824/1");
  CHECK(with([&](PlanInputs& p) { p.qo_lens = one; }) == "qo_lens size/1/-1");
  CHECK(with([](PlanInputs& p) { p.num_qo_heads = 5; }) == "num_qo_heads/5/-1");
  CHECK(with([](PlanInputs& p) { p.num_kv_heads = 0; }) == "num_kv_heads/0/-1");
  CHECK(with([](PlanInputs& p) { p.head_dim_vo = 0; }) == "head_dim_vo/0/-1");
  CHECK(with([](PlanInputs& p) { p.page_size = 0; }) == "page_size/0/-1");
  CHECK(with([](PlanInputs& p) { p.window_left = -2; }) == "window_left/-2/-1");
  CHECK(with([](PlanInputs& p) { p.query_tile = -1; }) == "query_tile/-1/-1");
  CHECK(with([](PlanInputs& p) { p.chunk_align = 0; }) == "chunk_align/0/-1");
  CHECK(with([](PlanInputs& p) { p.policy = SplitPolicy::fixed, p.chunk_size = 65; }) == "chunk_size/65/-1");
  CHECK(with([](PlanInputs& p) { p.policy = SplitPolicy::target, p.chunk_align = 48; }) == "chunk_align/48/-1");
  CHECK(with([](PlanInputs& p) { p.policy = SplitPolicy::target, p.target_units = 0; }) == "target_units/0/-1");
  CHECK(with([](PlanInputs& p) { p.policy = SplitPolicy::count, p.min_chunk = 0; }) == "min_chunk/0/-1");
  CHECK(with([](PlanInputs& p) { p.machine = {0, 2}; }) == "num_sms/0/-1");
  CHECK(with([](PlanInputs& p) { p.machine = {1 << 20, 2}; }) == "num_sms * ctas_per_sm/2097152/-1");
  CHECK(with([](PlanInputs& p) { p.cost.per_item = -1; }) == "cost.per_item/-1/-1");
  CHECK(with([](PlanInputs& p) { p.cost.memory_bound_rows = 0; }) == "cost.memory_bound_rows/0/-1");
  const Lengths longest{2147483647};
  CHECK(with([&](PlanInputs& p) { p.kv_lens = longest; }) == "accepted");
  CHECK(with([&](PlanInputs& p) { p.kv_lens = longest, p.policy = SplitPolicy::fixed, p.chunk_align = p.chunk_size = 1; }) ==
        "work items/4294967294/-1");
}
