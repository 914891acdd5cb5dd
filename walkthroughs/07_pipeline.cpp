// Chapter 07: pipeline. A request cut into items that run side by side (D3); a ring of copies with 1, 2, 3 and more stages,
// as a timeline; page ids fetched a round ahead (D4). Ends with D3's and D4's loops on the CPU.
#include <cmath>

#include "ladder/cases/drawn/draw_case.hpp"
#include "planner/planner.hpp"
#include "walkthroughs/lane_attention.hpp"
#include "walkthroughs/measured.hpp"
#include "walkthroughs/ring_timeline.hpp"
#include "walkthroughs/toy.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;
using planner::PlanInputs;
using planner::SplitPolicy;

namespace {

PlanInputs inputs(std::span<const std::int32_t> kv_lens, int chunk) {
  return {.kv_lens = kv_lens, .num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128,
          .policy = chunk == 0 ? SplitPolicy::none : SplitPolicy::fixed, .chunk_size = chunk,
          .machine = {.ctas_per_sm = 3}};
}

void cut(Narrator& n, const Measured& gpu) {
  n.section("A long request, cut");
  const std::vector<std::int32_t> one{8192};
  const std::string work = "B1 kv8192 32/8";
  n.step("One request of 8192 keys. D2 gives a block to each KV head: 8 blocks for 132 SMs. D3's block does what an item "
         "of a plan says, so that the planner can cut the keys. Longest: the keys that one block does alone, which "
         "everybody waits for. Partials: how many a merge kernel then joins for each row.");
  std::vector<std::vector<std::string>> rows;
  for (const int chunk : {0, 1024, 512}) {
    const Plan plan = make_plan(inputs(one, chunk));
    const double us = gpu.us(work, chunk == 0 ? "D2" : text("D3 fixed %d", chunk));
    std::int32_t longest = 0, partials = 1;
    for (const WorkItem& item : plan.parts.front().items) longest = std::max(longest, item.keys.size());
    for (const Merge& m : plan.parts.front().merges) partials = std::max(partials, m.num_partials);
    rows.push_back({chunk == 0 ? "D2: not cut" : text("D3: %d", chunk), text("%td", plan.num_work()), text("%d", longest),
                    text("%d", partials), text("%.1f", us), text("%.2f", us / (longest / 32.0))});
  }
  n.table({"keys in a chunk", "blocks", "longest", "partials", "us", "us for 32 keys of it"}, rows);
  n.say("A block goes through its keys 32 at a time (4 warps, 8 tokens each), and 32 keys take no less than the %.2f us "
        "of D2, rather more: many blocks share memory, and starting and merging count too. Cutting makes the chain "
        "shorter, not faster. It pays as long as there are SMs without work.",
        gpu.us(work, "D2") / 256);
  const std::string skewed = "B64 lognormal 32/8", even = "B32 kv2048 32/8";
  n.step("A skewed batch, %s: 64 requests whose lengths are drawn from a lognormal distribution, 31 to 9251 keys. D2 takes "
         "%.0f us, because everybody waits for the longest request; D3 takes %.0f. Where every SM has work already (%s), "
         "cutting buys nothing: %.1f and %.1f.", skewed.c_str(), gpu.us(skewed, "D2"), gpu.us(skewed, "D3"), even.c_str(),
         gpu.us(even, "D2"), gpu.us(even, "D3"));
}

void timeline(Narrator& n, const Memory& memory) {
  n.section("A ring of copies");
  n.step("Now one warp alone, in ticks. A stage is the tokens that it asks for at once. The latency: from asking until the "
         "stage is there, %d ticks. The transfer: memory delivers at most one stage every %d ticks. Arithmetic on a stage "
         "takes %d. D3 asks, waits, computes, and only then asks again. A digit is the number of a stage; it stands where "
         "the stage is asked for, dashes follow until it has arrived. Below: the arithmetic on it.",
         memory.latency, memory.transfer, RingShape{}.arithmetic);
  n.block(show_timeline({.stages = 1}, memory, 4));
  n.step("cp.async copies into shared memory while the warp goes on. With a ring of 2 places the next stage is asked for "
         "before this one is computed; with 4, three are under way:");
  n.block(show_timeline({.stages = 2}, memory, 5) + "\n" + show_timeline({.stages = 4}, memory, 8));
  std::string arrivals;
  for (const StageTimes& t : simulate({.stages = 4}, memory, 4)) arrivals += text("%s%d", t.step > 0 ? ", " : "", t.arrived);
  n.say("With 4 places, stages 0 to 3 are all asked for at tick 0. They arrive at ticks %s: the latency, and then one "
        "transfer after the other. So the dashes of the first stages have different lengths.", arrivals.c_str());
  n.figure("ring", ring_picture({{.stages = 1}, {.stages = 2}, {.stages = 3}, {.stages = 4}}, memory, 24, 72),
           "One warp with 1 to 4 stages");
  std::vector<std::string> header{"stages"}, sim{"ticks between stages, simulated"}, rule{"the rule"};
  bool agree = true;
  for (int stages = 1; stages <= 6; ++stages) {
    const RingShape shape{.stages = stages};
    const double ring = static_cast<double>(memory.latency + shape.arithmetic) / stages;
    const double expected = std::max({ring, double(shape.arithmetic), double(memory.transfer)});
    header.push_back(text("%d", stages)), sim.push_back(text("%.1f", period(shape, memory)));
    rule.push_back(text("%.1f", expected));
    agree = agree && std::abs(period(shape, memory) - expected) < 0.1;
  }
  n.step("How many ticks pass from one stage to the next, once the ring is full:");
  n.table(header, {sim, rule});
  n.say("The rule: a place of the ring is taken for latency + arithmetic ticks, and then for the next stage. So a stage "
        "takes (latency + arithmetic) / stages; but never less than its arithmetic, and never less than the transfer. "
        "The largest of the three is the limit. That is Little's law again.");
  n.check_that("the simulation obeys the rule", agree);
}

void warps(Narrator& n, const Memory& memory) {
  n.section("Stages or warps");
  n.step("A second warp fills the gaps of the first, as a second stage does. What share of memory's rate (a stage every %d "
         "ticks) an SM with four schedulers reaches:", memory.transfer);
  std::vector<std::vector<std::string>> rows;
  const std::array shapes{RingShape{.stages = 1, .ids_ahead = false}, RingShape{.stages = 1}, RingShape{.stages = 2},
                          RingShape{.stages = 3}, RingShape{.stages = 4}};
  for (const int count : {1, 2, 4, 8}) {
    std::vector<std::string> row{text("%d", count)};
    for (RingShape with : shapes) {
      with.warps = count;
      row.push_back(text("%.0f", 100 * memory.transfer / period(with, memory)));
    }
    rows.push_back(row);
  }
  n.table({"warps", "1 stage, ids late", "1 stage", "2 stages", "3 stages", "4 stages"}, rows);
  n.say("\"ids late\": a warp first waits for the page ids of a stage, and asks for the stage when it has them. That is D3. "
        "Warps cost registers, stages cost shared memory, and decode has no other use for most of an SM's shared memory.");
}

void slots(Narrator& n, const ladder::Case& c) {
  n.section("Page ids, a round ahead");
  const AttentionProblem problem = c.problem();
  n.step("From a token to its bytes is a walk: token / page_size, load the page id, multiply by strides. In D3 all %d "
         "lanes of a token walk it, at the moment they need it. In D4 lane l walks for token l of the warp's next 32, a "
         "round before, and a shuffle hands the answer to the lanes that copy. Request 0, warp 0, KV head 0:", 128 / 8);
  std::vector<std::vector<std::string>> rows;
  for (const int lane : {0, 1, 15, 16, 31}) {
    const KvSlot slot = problem.page_table().locate(0, lane);
    const std::string copied_by = text("%d .. %d", lane % 2 * 16, lane % 2 * 16 + 15);
    rows.push_back({text("%d", lane), text("%d", lane), text("%d", static_cast<int>(slot.page)), text("%d", slot.entry),
                    text("%d", static_cast<int>(problem.kv.k_strides.offset(slot, 0))), text("%d", lane / 8), copied_by});
  }
  n.table({"lane", "knows token", "page", "entry", "offset of K", "copied in stage", "by lanes"}, rows);
  n.say("Walks for 32 tokens: 16 warp instructions a step of the walk in D3 (two tokens at a time), 1 in D4, and three "
        "shuffles for every two tokens (K, V, seen).");
  n.check_that("lane l knows token l", problem.page_table().locate(0, 16).entry == 0);
}

// Walks D4's ring and says whether a place was overwritten before it was read, or read before it was written.
bool ring_holds(int stages, int ahead, int steps) {
  std::vector<int> holds(stages, -1);
  bool right = true;
  for (int step = 0; step < ahead; ++step) holds[step % stages] = step;
  for (int step = 0; step < steps; ++step) {
    holds[(step + ahead) % stages] = step + ahead;
    right = right && holds[step % stages] == step;
  }
  return right;
}

void no_barrier(Narrator& n) {
  n.section("No barrier");
  n.step("A place of the ring is written by one lane and read by the same lane: it copied 16 bytes, and it needs those "
         "16 bytes. So waiting for one's own copies is enough, and what keeps a copy from overwriting what is still "
         "needed is the order of the program. With %d stages, asking 3 ahead: every read finds its stage. Asking 4 ahead "
         "does not.", 4);
  n.check_that("4 stages: 3 ahead is right, 4 ahead overwrites what is needed",
               ring_holds(4, 3, 100) && !ring_holds(4, 4, 100));
}

void on_the_gpu(Narrator& n, const Measured& gpu, const ladder::Case& c) {
  n.section("On the GPU");
  const double sms = planner::MachineShape{}.num_sms, blocks = 256.0 / sms;
  const int stage = warp_lanes * in_flight * 2 * 16 * block_warps;  // bytes of K and V that a block asks for at once
  n.step("B32 kv2048 32/8 has 256 blocks, %.1f an SM. D3 asks for %.0f KiB an SM at a time, in registers. D4 has 3 of 4 "
         "stages under way, %.0f KiB, in shared memory. What that bought:", blocks, blocks * stage / 1024,
         blocks * 3 * stage / 1024);
  gpu.table(n, {"B32 kv2048 32/8", "B32 kv2048 64/8", "B32 kv2048 32/32", "B64 lognormal 32/8", "B1 kv8192 32/8"},
            {"read", "D2", "D3", "D4"});
  n.step("Is memory still what D4 waits for? For each token's K and V of one KV head: the clocks that an SM has at the "
         "time that D4 took; the warp instructions that chapter 06 counts; and how many of the four schedulers' issue "
         "slots that is:");
  std::vector<std::vector<std::string>> rows;
  for (const auto& [work, group] : {std::pair{"B32 kv2048 32/32", 1}, {"B32 kv2048 32/8", 4}, {"B32 kv2048 64/8", 8}}) {
    const double us = gpu.us(work, "D4");
    const double clocks = 512 / bytes_per_clock(gpu.bytes(work, "D4"), us, gpu.clocks_per_us(), static_cast<int>(sms));
    const CountedPass pass = count_pass(c.problem(), group);
    const double instructions = pass.for_a_token(pass.issued.total());
    rows.push_back({work, text("%d", group), text("%.0f", 100 * gpu.us(work, "read") / us), text("%.0f", clocks),
                    text("%.1f", instructions), text("%.0f", 100 * instructions / (4 * clocks))});
  }
  n.table({"D4", "heads", "% of read's rate", "clocks", "instructions", "% of the slots"}, rows);
  const double one = gpu.us("B1 kv8192 32/8", "D2") / 256;
  const double taken = 256.0 * 4 * stage / gpu.bytes("B32 kv2048 32/8", "D4") * gpu.us("B32 kv2048 32/8", "D4");
  n.say("Little's law backwards: with four heads a place of D4's ring is taken for %.1f us. In D2 a whole pass of the loop, "
        "page ids and waiting and arithmetic, took %.2f us when memory had little else to do (chapter 06). So the bytes "
        "lie in the ring for a good part of that time, and wait for arithmetic. What that waits for the count cannot say: "
        "it lacks addresses, their shuffles, reads of shared memory, the loop. A profiler counts them.",
        taken, one);
}

void the_rungs(Narrator& n, const ladder::Case& c) {
  n.section("The rungs: D3 and D4, on a CPU");
  const Plan plan = make_plan(inputs(c.spec.kv_lens, 64));
  n.step("Both loops on a plan of %td items and %td merges, fp16, NaN in every unused slot: D3 without a ring, D4 with 4 "
         "stages and turns of 32 tokens.", plan.num_work(), plan.num_merges());
  const ladder::RunResult below = run_rung(ladder::rung("C4"), c);
  const ladder::Oracle oracle = ladder::make_oracle(c);
  for (const auto& [name, shape] : {std::pair{"D3", LoopShape{}}, {"D4", LoopShape{.stages = 4, .turn = 32}}}) {
    const ladder::Comparison worst = agree(c, run_lanes(c, plan, shape), &below, oracle);
    n.check_that(text("%s's loop equals C4 and the oracle: o and lse_log2", name), worst.ok(), text("%.2g", worst.ratio()));
  }
  n.question("In D4 a step that has nothing to copy still commits an (empty) group. What would cp_async_wait<3> mean for "
             "the last three steps if it did not?");
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{7, "Pipeline", "Cut what is long; then ask for what comes next before computing what is here."};
  Memory memory;
  const std::vector<Number> options{
    {"--latency", "ticks from asking for a stage until it is there", &memory.latency, 2, 60},
    {"--transfer", "ticks between two arrivals", &memory.transfer, 1, 20},
  };
  return walk(argc, argv, chapter, [&](Narrator& n) {
    const Measured gpu;
    const ladder::Case c = ladder::draw_case({.name = "pipeline", .seed = 7, .qo_lens = {1, 1, 1}, .kv_lens = {300, 7, 0},
                                              .params = {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128,
                                                         .head_dim_vo = 128, .sm_scale = 0.0883883f}, .dtype = DType::f16});
    cut(n, gpu);
    timeline(n, memory);
    warps(n, memory);
    slots(n, c);
    no_barrier(n);
    on_the_gpu(n, gpu, c);
    the_rungs(n, c);
  }, options);
}
