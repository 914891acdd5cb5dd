// Chapter 09: balanced (D6). What one block an item loses; a stream of copies that does not stop where an item ends; CTAs
// with queues, at most two partials each; the merge in the last CTA to arrive; kernels that start before the one in front
// has ended. Ends with D6's queues on real threads.
#include <algorithm>
#include <atomic>
#include <numeric>
#include <set>
#include <thread>

#include "draw/plan_lanes.hpp"
#include "ladder/cases/draw_case.hpp"
#include "ladder/cases/random.hpp"
#include "walkthroughs/measured.hpp"
#include "walkthroughs/plan_text.hpp"
#include "walkthroughs/ring_timeline.hpp"
#include "walkthroughs/tensor_core.hpp"
#include "walkthroughs/toy.hpp"

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
  n.step("D5 starts a block for each item. 32 requests of 2048 keys, 8 KV heads are 256 items for %d blocks at a time: it "
         "fits, and takes %.1f us. The same work in smaller items: 1024 keys %.1f us, 512 keys %.1f. No byte more is read.",
         static_cast<int>(planner::MachineShape{}.num_ctas()), gpu.us(work, "D5"), gpu.us(work, "D5 fixed 1024"),
         gpu.us(work, "D5 fixed 512"));
  const Memory memory;
  const RingShape ring{.stages = 3};
  const auto end = [&](int steps) { return simulate(ring, memory, steps).back().done; };
  n.step("Each block fills its ring, and drains it. In the ticks of chapter 07, one warp with 3 stages (memory answers "
         "after %d, arithmetic takes %d), 4 items of 8 stages:", memory.latency, ring.arithmetic);
  n.table({"", "ticks"}, {{"four blocks, one after the other", text("%d", 4 * end(8))},
                          {"one block, whose copies run on into the next item", text("%d", end(32))}});
  n.say("So D6's blocks live as long as the launch. Each has a queue of items, and a warp that computes the last tiles of "
        "one already copies the first tiles of the next.");
  n.check_that("one stream of copies takes less", end(32) < 4 * end(8));
}

void plans(Narrator& n) {
  n.section("Equal shares");
  n.step("Blocks that live from the first to the last moment must have equal work. A skewed batch, 64 requests with %d "
         "keys, the longest %d, 8 KV heads, on 132 SMs with 2 CTAs each, as three policies share it out:",
         std::accumulate(lognormal64.begin(), lognormal64.end(), 0), std::ranges::max(lognormal64));
  std::vector<Plan> made;
  std::vector<std::vector<float>> costs;
  std::vector<std::vector<std::string>> rows;
  const std::vector<std::pair<std::string, PlanInputs>> all{
      {"none", on_the_gpu(lognormal64, SplitPolicy::none)}, {"fixed 512", on_the_gpu(lognormal64, SplitPolicy::fixed, 512)},
      {"balanced", on_the_gpu(lognormal64, SplitPolicy::balanced)}};
  for (const auto& [name, in] : all) {
    made.push_back(make_plan(in));
    costs.push_back(item_costs(made.back(), in.cost));
    const planner::PlanSummary s = planner::summarize(made.back());
    rows.push_back({name, text("%td", s.items), text("%.0f", made.back().makespan), text("%.1f", 100 * s.utilisation),
                    text("%td", s.merges), text("%td", s.partial_rows), text("%.1f", s.workspace_bytes / 1048576.0)});
  }
  n.table({"policy", "items", "makespan, keys", "used %", "merges", "partial rows", "MiB"}, rows);
  std::vector<draw::PolicyLanes> panels;
  for (std::size_t i = 0; i < made.size(); ++i) panels.push_back({all[i].first, &made[i], costs[i]});
  n.figure("lanes", draw::policies_picture(panels, 2, {.title = "64 requests of lognormal lengths on 264 CTAs, predicted"}),
           "Predicted lanes of three policies");
  const Plan& plan = made.back();
  int most = 0;
  std::int32_t shown = 0;
  for (std::int32_t cta = 0; cta < plan.num_ctas(); ++cta) {
    const auto begin = plan.queue.begin() + plan.queue_indptr[cta], end = plan.queue.begin() + plan.queue_indptr[cta + 1];
    const auto cut = std::count_if(begin, end, [&](std::int32_t i) { return !plan.items[i].whole(); });
    most = std::max(most, static_cast<int>(cut));
    if (cut == 2 && end - begin >= 4 && shown == 0) shown = cta;
  }
  n.step("A CTA has one stretch of a line of tiles, so only its first and its last item can be parts of a tile: at most two "
         "partials to write. CTA %d's queue:", shown);
  std::string queue;
  for (std::int32_t q = plan.queue_indptr[shown]; q < plan.queue_indptr[shown + 1]; ++q) {
    const WorkItem& item = plan.items[plan.queue[q]];
    queue += text("request %2d  KV head %d  keys %5d .. %5d  ", item.request, item.kv_head, item.keys.begin, item.keys.end);
    queue += item.whole() ? "whole: writes o\n" : text("part: partial rows %td ..\n", item.partial_slot);
  }
  n.block(queue);
  n.check_that("no CTA writes more than two partials", most <= 2);
  n.check_that("balanced is used best", planner::summarize(plan).utilisation > 0.9);
}

// atom.inc of PTX: back to zero after `most`.
std::uint32_t inc(std::atomic<std::uint32_t>& counter, std::uint32_t most) {
  std::uint32_t before = counter.load(std::memory_order_relaxed);
  while (!counter.compare_exchange_weak(before, before >= most ? 0 : before + 1, std::memory_order_acq_rel)) {
  }
  return before;
}

void arrivals(Narrator& n) {
  n.section("The last one merges");
  n.step("D5's merge is a second launch: it may start when every partial is written. D6 needs no launch. Who has written "
         "a partial adds one to the merge's counter, and whoever finds itself the last of them merges. Three CTAs, two "
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
  n.say("The increment wraps, so the counter is zero for the next launch and nobody must clear it. It releases what the CTA "
        "has written and acquires what the others have: without that, the last one could read partials that are still on "
        "their way.");
  n.check_that("one merge a launch, and zero at the end", merges == 2 && counter == 0);

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
  n.step("In which order? Five partials of one row, merged in all 120 orders in which they may arrive (what adding to o as "
         "one arrives would do): several different results, in the last bits. So the last one merges all of them, its own "
         "too, in slot order: whoever it is, the bits are the same.");
  n.check_that("the order of arrival would show in the bits", results.size() > 1);
}

void dependent_launch(Narrator& n) {
  n.section("Starting before the one in front has ended");
  n.step("A kernel begins with what depends on nobody: its queue, page ids (p). Then keys (K), and at the end some CTAs "
         "still work while others are done (k). Normally the next kernel waits for the end, and for its launch (.). With "
         "programmatic dependent launch it is put on free SMs early and waits inside, after its p:");
  const std::string one = "ppppKKKKKKKKKKKKkkk";
  n.block("one by one    " + one + "\n" + std::string(14 + one.size(), ' ') + "..." + one + "\n\n" +
          "overlapping   " + one + "\n" + std::string(14 + one.size() - 4, ' ') + one + "\n");
  n.say("What may be read before the wait is only what no kernel in front writes: the plan and the page ids. q, and this "
        "step's keys, may be the output of the kernel in front.");
}

void the_table(Narrator& n, const Measured& gpu) {
  n.section("On the GPU");
  const std::vector<std::string> works{"B32 kv2048 32/8", "B32 kv2048 64/8", "B32 kv2048 32/32", "B64 lognormal 32/8",
                                       "B1 kv8192 32/8"};
  n.step("Times (%s):", gpu.machine().c_str());
  gpu.table(n, works, {"read", "D4", "D5"});
  const Measured with_peers({"h200-ours.jsonl", "h200-peers.jsonl"});
  n.step("D6 came later, in turn with FlashInfer (%s; another machine, so compare within a table):",
         with_peers.machine().c_str());
  with_peers.table(n, works, {"read", "D6", "FlashInfer tensor-core", "FlashInfer cuda-core"});
}

// A CTA a thread, each with its queue; the last to arrive at a merge does it, in slot order.
ladder::RunResult run_queues(const ladder::Case& c, const Plan& plan) {
  const AttentionProblem problem = c.problem();
  PlanRun run(c, plan);
  std::vector<std::atomic<std::uint32_t>> counters(plan.merges.size());
  const auto cta = [&](std::int32_t index) {
    for (std::int32_t q = plan.queue_indptr[index]; q < plan.queue_indptr[index + 1]; ++q) {
      const WorkItem& item = plan.items[plan.queue[q]];
      run.store(item, attend_on_tensor_cores(problem, item));
      if (item.whole()) continue;
      const auto after = std::ranges::upper_bound(plan.merges, item.partial_slot, {}, &Merge::first_slot);
      const auto m = static_cast<std::size_t>(after - plan.merges.begin()) - 1;
      const auto last = static_cast<std::uint32_t>(plan.merges[m].num_partials - 1);
      if (inc(counters[m], last) == last) run.join(plan.merges[m]);
    }
  };
  std::vector<std::jthread> threads;
  for (std::int32_t index = 0; index < plan.num_ctas(); ++index) threads.emplace_back(cta, index);
  threads.clear();
  return run.result();
}

void the_rung(Narrator& n) {
  n.section("The rung: D6, on a CPU");
  const ladder::Case c = ladder::draw_case({.name = "queues", .seed = 9, .qo_lens = {1, 1, 1, 1},
                                            .kv_lens = {900, 33, 0, 210},
                                            .params = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64,
                                                       .head_dim_vo = 64, .sm_scale = 0.125f}, .dtype = DType::f16});
  const Plan plan = planner::make_plan({.kv_lens = c.spec.kv_lens, .num_qo_heads = 8, .num_kv_heads = 2,
                                        .machine = {.num_sms = 6, .ctas_per_sm = 1}});
  n.step("Six threads as six CTAs, each with its queue (%zu items in all, %zu merges), D5's tile loop, and the counter "
         "above. The last to arrive merges.", plan.items.size(), plan.merges.size());
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
    const Measured gpu;
    blocks(n, gpu);
    plans(n);
    arrivals(n);
    dependent_launch(n);
    the_table(n, gpu);
    the_rung(n);
  });
}
