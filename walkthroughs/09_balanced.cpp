// Chapter 09: balanced (D6). What one block an item loses; a stream of copies that does not stop where an item ends; CTAs
// with queues of equal cost; the merge in the last CTA to arrive, and what release and acquire forbid; kernels that start
// before the previous one has ended. Ends with D6's queues on real threads.
#include <algorithm>
#include <atomic>
#include <numeric>
#include <set>

#include "draw/plan_lanes.hpp"
#include "gpu/attention/packed_plan.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "ladder/cases/drawn/random.hpp"
#include "walkthroughs/measured.hpp"
#include "walkthroughs/memory_orders.hpp"
#include "walkthroughs/plan_text.hpp"
#include "walkthroughs/queue_run.hpp"
#include "walkthroughs/ring_timeline.hpp"
#include "walkthroughs/toy.hpp"
#include "walkthroughs/toy_row.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;
using planner::PlanInputs;
using planner::SplitPolicy;

namespace {

// The skewed batch of the measurements ("B64 lognormal"): drawn once from e^N(6.9, 1.3).
const std::vector<std::int32_t> lognormal64 = ladder::parse_lengths(
    "--kv", "2185,974,4915,3714,640,4830,332,753,457,310,5417,1465,279,5487,5347,9251,342,1021,251,3079,197,3988,603,1080,"
            "1071,969,745,1310,3679,2825,1893,1367,317,4156,1259,1206,1012,608,1246,1576,175,31,1511,2120,97,683,199,358,"
            "2357,466,175,798,1020,3596,60,76,2375,3920,171,570,336,243,46,2518");

PlanInputs on_the_gpu(std::span<const std::int32_t> kv_lens, SplitPolicy policy, int chunk = 0) {
  return {.kv_lens = kv_lens, .num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128,
          .policy = policy, .chunk_size = chunk};
}

void blocks(Narrator& n, const Measured& gpu) {
  n.section("What one block an item loses");
  const std::string work = "B32 kv2048 32/8";
  n.step("D5 starts a block for each item. 32 requests of 2048 keys, 8 KV heads are 256 items, and %d blocks run at a time: "
         "it takes %.1f us. The same work in smaller items: 1024 keys %.1f us, 512 keys %.1f. No byte more of K and V is "
         "read.",
         static_cast<int>(planner::MachineShape{}.num_ctas()), gpu.us(work, "D5"), gpu.us(work, "D5 fixed 1024"),
         gpu.us(work, "D5 fixed 512"));
  const Memory memory;
  const RingShape ring{.stages = 3};
  n.step("A block fills its ring when it begins, and drains it when it ends. In the ticks of chapter 07 (3 stages; memory "
         "answers after %d ticks and delivers a stage every %d; arithmetic on a stage takes %d), the arithmetic of one warp "
         "that has two items, A and B, of 4 stages each. A dot is a tick without arithmetic:",
         memory.latency, memory.transfer, ring.arithmetic);
  const auto line = [&](int steps, const char* items) {
    return arithmetic_line(ring, memory, steps, [&](int step) { return items[step / 4]; });
  };
  n.block("two blocks  " + line(4, "A") + line(4, "B") + "\n" + "one block   " + line(8, "AB") + "\n");
  const auto ticks = [&](int steps) { return simulate(ring, memory, steps).back().done; };
  n.table({"ticks for", "2 items of 4 stages", "4 items of 8 stages"},
          {{"a block for each item", text("%d", 2 * ticks(4)), text("%d", 4 * ticks(8))},
           {"one block, whose copies run on into the next item", text("%d", ticks(8)), text("%d", ticks(32))}});
  n.check_that("one stream of copies takes less", ticks(8) < 2 * ticks(4) && ticks(32) < 4 * ticks(8));
}

void shares(Narrator& n) {
  n.section("Equal shares");
  n.step("A skewed batch, 64 requests with %d keys, the longest %d, 8 KV heads, on 132 SMs with 2 CTAs each, as three "
         "policies share it out:",
         std::accumulate(lognormal64.begin(), lognormal64.end(), 0), std::ranges::max(lognormal64));
  std::vector<Plan> made;
  std::vector<std::vector<float>> costs;
  std::vector<std::vector<std::string>> rows;
  const std::vector<std::pair<std::string, PlanInputs>> all{
      {"none", on_the_gpu(lognormal64, SplitPolicy::none)}, {"fixed 512", on_the_gpu(lognormal64, SplitPolicy::fixed, 512)},
      {"balanced", on_the_gpu(lognormal64, SplitPolicy::balanced)}};
  for (const auto& [name, in] : all) {
    made.push_back(make_plan(in));
    costs.push_back(work_costs(made.back(), in.cost));
    const planner::PlanSummary s = planner::summarize(made.back());
    rows.push_back({name, text("%td", s.items), text("%.0f", made.back().makespan), text("%.1f", 100 * s.utilisation),
                    text("%td", s.merges), text("%td", s.partial_rows), text("%.1f", s.workspace_bytes / 1048576.0)});
  }
  n.table({"policy", "items", "makespan, keys", "used %", "merges", "partial rows", "MiB"}, rows);
  std::vector<draw::PolicyLanes> panels;
  for (std::size_t i = 0; i < made.size(); ++i) panels.push_back({all[i].first, &made[i], costs[i]});
  n.figure("queues", draw::policies_picture(panels, 2, {.title = "64 requests of lognormal lengths on 264 CTAs, predicted"}),
           "Predicted queues of three policies");
}

void one_queue(Narrator& n) {
  const Plan plan = make_plan(on_the_gpu(lognormal64, SplitPolicy::balanced));
  const PlanPart& part = plan.parts.front();
  int most = 0;
  std::int32_t shown = 0;
  bool one_head = true;
  for (std::int32_t cta = 0; cta < plan.num_ctas(); ++cta) {
    const auto begin = part.queue.begin() + part.queue_indptr[cta], end = part.queue.begin() + part.queue_indptr[cta + 1];
    const auto cut = std::count_if(begin, end, [&](std::int32_t w) { return !part.work(w).whole(); });
    one_head = one_head && std::all_of(begin, end, [&](std::int32_t w) { return part.work(w).head == cta % 8; });
    most = std::max(most, static_cast<int>(cut));
    if (cut == 2 && end - begin >= 4 && shown == 0) shown = cta;
  }
  n.step("%d CTAs and 8 KV heads: the keys of one head, request after request, are cut into %d equal shares, and the same "
         "cuts serve every head. CTA s * 8 + h has share s of KV head h. CTA %d has share %d of head %d:",
         plan.num_ctas(), plan.num_ctas() / 8, shown, shown / 8, shown % 8);
  std::string queue;
  for (std::int32_t q = part.queue_indptr[shown]; q < part.queue_indptr[shown + 1]; ++q) {
    const WorkItem item = part.work(part.queue[q]);
    queue += text("request %2d  KV head %d  keys %5d .. %5d  ", item.request, item.head, item.keys.begin, item.keys.end);
    queue += item.whole() ? "whole: writes o\n" : text("part: partial rows %td ..\n", item.partial_slot);
  }
  n.block(queue);
  n.say("A share is one stretch, so only its first and its last item can be parts of a tile: at most two partials to "
        "write.");
  n.check_that("CTA c has items of KV head c % 8 alone", one_head);
  n.check_that("no CTA writes more than two partials", most <= 2);
  n.check_that("balanced uses more than nine tenths", planner::summarize(plan).utilisation > 0.9);
}

void arrivals(Narrator& n) {
  n.section("The last to arrive merges");
  n.step("A tile was cut into three parts, which three CTAs compute. Each merge has a counter. A CTA that has written its "
         "partial adds one and gets the number that was there before; who gets 2 is the last of three, and merges. Two "
         "launches:");
  std::atomic<std::uint32_t> counter = 0;
  std::vector<std::vector<std::string>> rows;
  int merges = 0;
  for (const int cta : {1, 0, 2, 2, 1, 0}) {
    const std::uint32_t before = inc(counter, 2);
    merges += before == 2;
    rows.push_back({text("%d", cta), text("%u", before), text("%u", counter.load()), before == 2 ? "merges" : "goes on"});
  }
  n.table({"CTA", "finds", "leaves", ""}, rows);
  n.say("The addition wraps: after 2 comes 0. So the counter is ready for the next launch, and nobody must clear it.");
  n.check_that("one merge a launch, and zero at the end", merges == 2 && counter == 0);
}

void release_and_acquire(Narrator& n) {
  n.section("Release and acquire");
  n.step("CTA A writes its partial, then counts. CTA B counts, finds that it is the last, and reads A's partial. But a "
         "write takes its time until others can see it, and a load may be issued before an instruction that stands in front "
         "of it. Four events, then: A's partial can be seen; A counts; B counts; B reads. Without a rule they may happen in "
         "any of 24 orders. Release: what a CTA wrote can be seen before its count can. Acquire: what a CTA reads after its "
         "count, it reads after it.");
  const Orders neither(false, false), release(true, false), acquire(false, true), both(true, true);
  n.table({"rule", "possible orders", "B is last", "... and reads too early"},
          {neither.row("neither"), release.row("release alone"), acquire.row("acquire alone"), both.row("both")});
  n.say("The wrong order with release alone: %s. With acquire alone: %s.", release.a_wrong_one.c_str(),
        acquire.a_wrong_one.c_str());
  n.check_that("with both B never reads too early, with one of them it may",
               both.wrong == 0 && release.wrong > 0 && acquire.wrong > 0);
}

void slot_order(Narrator& n) {
  n.section("In slot order");
  const ToyRow row(3);
  std::vector<reference::c2::Partial> parts;
  for (std::int32_t j = 0; j < 10; j += 2) parts.push_back(row.attend({j, j + 2}));
  std::vector<int> order{0, 1, 2, 3, 4};
  std::set<std::vector<float>> results;
  do {
    SoftmaxState<float> state;
    Eigen::RowVectorXf o = Eigen::RowVectorXf::Zero(4);
    for (const int p : order) {
      const MergeWeights<float> w = merge(state, SoftmaxState<float>::from_lse_log2(parts[p].lse_log2[0]));
      o = o * w.a + parts[p].o.row(0) * w.b;
    }
    o *= state.inverse_d();
    results.insert({o.begin(), o.end()});
  } while (std::ranges::next_permutation(order).found);
  n.step("Why does the last CTA merge all partials? Each could instead add its own to o when it arrives. Five partials of "
         "one row, merged in all 120 orders in which they may arrive, give several different results, which differ in the "
         "last bits. The last CTA merges them in the order of their slots, its own too: whichever CTA it is, the bits are "
         "the same.");
  n.check_that("the order of arrival would show in the bits", results.size() > 1);
}

void groups(Narrator& n) {
  n.section("Many partials: groups of 16");
  n.step("A long request on the whole machine has many partials, and the last CTA would read them all, when the others "
         "have nothing left to do. Above %d partials they are merged in groups of %d, each by the last of its group; the "
         "last group to be ready then merges the groups:",
         gpu::PackedMerge::most_at_once, gpu::PackedMerge::group_size);
  std::vector<std::int32_t> many(32, 4096);
  many[0] = 65536;
  const std::vector<std::int32_t> one{131072};
  const auto most_partials = [](std::span<const std::int32_t> kv_lens, int kv_heads) {
    PlanInputs in = on_the_gpu(kv_lens, SplitPolicy::balanced);
    in.num_qo_heads = kv_heads == 1 ? 8 : 32, in.num_kv_heads = kv_heads;
    const Plan plan = make_plan(in);
    std::int32_t most = 0;
    for (const Merge& m : plan.parts.front().merges) most = std::max(most, m.num_partials);
    return most;
  };
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, partials] : {std::pair{"B1 kv8192 32/8", most_partials(std::vector{8192}, 8)},
                                       {"B1 kv131072 32/8", most_partials(one, 8)},
                                       {"1 x 65536 + 31 x 4096 8/1", most_partials(many, 1)},
                                       {"B1 kv131072 8/1", most_partials(one, 1)}}) {
    gpu::PackedMerge m;
    m.num_partials = partials;
    const int in_groups = m.grouped() ? gpu::PackedMerge::group_size + m.num_groups() : partials;
    rows.push_back({name, text("%d", partials), m.grouped() ? text("%d", m.num_groups()) : "-", text("%d", in_groups)});
  }
  n.table({"the longest request of", "partials", "groups", "one CTA reads at most"}, rows);
}

void dependent_launch(Narrator& n, const Measured& with_peers) {
  n.section("Starting before the previous kernel has ended");
  n.step("Time goes to the right, a character a tick. p: the kernel reads what it needs to begin, its queue and page ids. "
         "K: all CTAs work on keys. k: some CTAs are done, others still work. A dot: nothing runs, the next kernel is "
         "being launched. Two kernels on one stream, one after the other, and with programmatic dependent launch:");
  const std::string one = "ppppKKKKKKKKKKKKkkk";
  n.block("one by one    " + one + "\n" + std::string(14 + one.size(), ' ') + "..." + one + "\n\n" +
          "overlapping   " + one + "\n" + std::string(14 + one.size() - 4, ' ') + one + "\n");
  n.say("The second kernel is put on SMs that are free, reads its p, and waits there until the first has ended. What it "
        "saves here: 3 ticks of launching and 4 of p.");
  n.step("Measured: launches in a CUDA graph (chapter 10), over caches that are not in L2. D6: one by one; pdl: the same "
         "kernel, overlapping (%s):", with_peers.machine().c_str());
  with_peers.table(n, {"B1 kv1024 32/8 p16 cold", "B1 kv8192 32/8 p16 cold", "B32 kv2048 32/8 p16 cold",
                       "B64 lognormal 32/8 p16 cold", "B1 kv131072 32/8 p16 cold"}, {"read", "D6", "pdl"});
}

void the_table(Narrator& n, const Measured& gpu, const Measured& with_peers) {
  n.section("On the GPU");
  const std::vector<std::string> works{"B32 kv2048 32/8", "B32 kv2048 64/8", "B32 kv2048 32/32", "B64 lognormal 32/8",
                                       "B1 kv8192 32/8"};
  n.step("Times (%s):", gpu.machine().c_str());
  gpu.table(n, works, {"read", "D4", "D5"});
  n.step("D6 came later, in turn with FlashInfer (%s; another machine, so compare within a table):",
         with_peers.machine().c_str());
  with_peers.table(n, works, {"read", "D6", "FlashInfer tensor-core", "FlashInfer cuda-core"});
  n.step("D6 against a kernel that only reads the same bytes, in all decode cases of that run, pages of 16:");
  std::vector<std::vector<std::string>> rows;
  for (const char* work : {"B64 kv8192 32/8", "B32 kv2048 32/32", "1 x 65536 + 31 x 4096 32/8", "B1 kv131072 32/8",
                           "B32 kv2048 32/8", "B32 kv2048 64/8", "B64 lognormal 32/8", "mixed16 32/8",
                           "1 x 65536 + 31 x 4096 8/1", "B1 kv8192 32/8", "B1 kv1024 32/8"}) {
    const double read = with_peers.us(work, "read"), us = with_peers.us(work, "D6");
    rows.push_back({work, text("%.1f", read), text("%.1f", us), text("%+.1f", us - read),
                    text("%+.1f", 100 * (us / read - 1))});
  }
  n.table({"us", "read", "D6", "more", "more, %"}, rows);
}

void the_rung(Narrator& n) {
  n.section("The rung: D6, on a CPU");
  const ladder::Case c = ladder::draw_case({.name = "queues", .seed = 9, .qo_lens = {1, 1, 1, 1},
                                            .kv_lens = {900, 33, 0, 210},
                                            .params = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64,
                                                       .head_dim_vo = 64, .sm_scale = 0.125f}, .dtype = DType::f16});
  const Plan plan = planner::make_plan({.kv_lens = c.spec.kv_lens, .num_qo_heads = 8, .num_kv_heads = 2,
                                        .machine = {.num_sms = 6, .ctas_per_sm = 1}});
  n.step("Six threads as six CTAs, each with its queue (%td items in all, %td merges), D5's tile loop, and the counter "
         "above. The last to arrive merges.", plan.num_work(), plan.num_merges());
  const ladder::RunResult below = run_rung(ladder::rung("C4"), c), queues = run_queues(c, plan);
  const ladder::Comparison worst = agree(c, queues, &below, ladder::make_oracle(c, DType::f16));
  n.check_that("it equals C4 and the oracle: o and lse_log2", worst.ok(), text("%.2g of the tolerance", worst.ratio()));
  bool same = true;
  for (int again = 0; again < 20; ++again) same = same && run_queues(c, plan).o == queues.o;
  n.check_that("twenty more runs give the same bits", same);
  n.question("A CTA whose queue is empty must still do one thing before it ends when kernels overlap. Which, and for whom?");
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{9, "Balanced", "Every CTA works from the first moment to the last; the last to arrive merges."};
  return walk(argc, argv, chapter, [](Narrator& n) {
    const Measured gpu, with_peers({"h200-ours.jsonl", "h200-peers.jsonl"});
    blocks(n, gpu);
    shares(n);
    one_queue(n);
    arrivals(n);
    release_and_acquire(n);
    slot_order(n);
    groups(n);
    dependent_launch(n, with_peers);
    the_table(n, gpu, with_peers);
    the_rung(n);
  });
}
