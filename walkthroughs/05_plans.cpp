// Chapter 05: plans. What plan() decides and why; packed rows; the six split policies on one skewed batch; partial slots
// and merges; why bits change with the batch, and how they don't; work stealing; captured sizes. Ends with rung C4.
#include <atomic>
#include <numeric>
#include <thread>

#include "draw/plan_lanes.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "walkthroughs/plan_text.hpp"
#include "walkthroughs/toy.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;
using ladder::Case;
using planner::PlanInputs;
using planner::SplitPolicy;
using reference::Schedule;

namespace {

void the_batch(Narrator& n, std::span<const std::int32_t> kv_lens) {
  n.section("The work");
  const PlanInputs in = inputs(kv_lens, SplitPolicy::none);
  const Plan plan = make_plan(in);
  const std::int32_t total = std::accumulate(kv_lens.begin(), kv_lens.end(), 0), longest = std::ranges::max(kv_lens);
  n.step("Sixteen requests decode: each has one query against 512 to %d keys, %d in all; 4 query heads share 1 KV head, "
         "head_dim 64. The machine runs %d CTAs at a time. A CTA's time goes into reading keys and values, so cost is "
         "counted in keys, plus %.0f for what every work item costs (load q, fill the pipeline, write).", longest, total,
         num_ctas, in.cost.per_item);
  n.step("One CTA for each request, as the simplest kernel does it: the total is %.0f, an equal share would be %.0f, "
         "but the longest request alone takes %.0f. The batch is done when the last CTA is: the makespan.", plan.total_cost,
         plan.total_cost / num_ctas, in.cost.item(4, longest));
  n.say("plan() looks at lengths only, on the host, before anything runs: which rows against which keys is one work item, "
        "which CTA runs it, where partial results go and who merges them.");
}

void packed_rows(Narrator& n, std::span<const std::int32_t> kv_lens) {
  n.section("Rows: heads of a group are packed");
  n.step("The 4 query heads of a group read the same keys. So they become rows of one tile: row r is query r / 4, head r %% "
         "4. Two queries:");
  n.block(show_packed_rows(4, 8));
  const double bytes = std::accumulate(kv_lens.begin(), kv_lens.end(), 0.0) * 64 * 2 * 2 / 1048576;
  n.say("Our batch in 16 bits then reads %.1f MiB of K and V instead of %.1f, once for each head. And a matrix unit, which "
        "multiplies matrices of a fixed size, has 4 heads to fill them with instead of 1. A tile never holds rows of two KV "
        "heads.",
        bytes, 4 * bytes);
  const auto tile = [](planner::Phase phase, int group) { return planner::default_query_tile(phase, group); };
  n.step("How many rows a tile has depends on the operation and the group alone: decode %d (the group), prefill %d. Were it "
         "to look at the batch, a request would round otherwise next to a long neighbour.", tile(planner::Phase::decode, 4),
         tile(planner::Phase::prefill, 4));
  const std::vector<std::int32_t> qo{96}, kv{160};
  PlanInputs prefill = inputs(kv, SplitPolicy::none);
  prefill.qo_lens = qo;
  prefill.mask = MaskMode::causal;
  n.step("Prefill of 96 queries behind 64 keys, causal: 96 * 4 rows are three tiles. A tile reads what its last row sees.");
  n.block(show_items(make_plan(prefill), 0));
}

void policies(Narrator& n, std::span<const std::int32_t> kv_lens) {
  n.section("Keys: six policies to cut them");
  std::vector<Plan> plans;
  std::vector<std::vector<float>> costs;
  std::vector<draw::PolicyLanes> panels;
  std::vector<std::vector<std::string>> rows;
  for (const SplitPolicy policy : planner::all_policies) {
    const PlanInputs in = inputs(kv_lens, policy);
    plans.push_back(make_plan(in));
    costs.push_back(work_costs(plans.back(), in.cost));
    const planner::PlanSummary s = planner::summarize(plans.back());
    rows.push_back({name_of(policy), text("%d", plans.back().chunk_size), text("%td", s.items),
                    text("%.0f", plans.back().makespan), text("%.1f", 100 * s.utilisation), text("%.0f", s.tail),
                    text("%td", s.merges), text("%td", s.partial_rows), text("%zu", s.workspace_bytes)});
  }
  n.step("none: not at all. fixed: every 2048 keys. count: the smallest chunk whose items still fit the grid; 16 tiles fill "
         "8 CTAs already, so here it cuts nothing. target: the largest of 512, 1024, 2048, 4096 that gives at least %td "
         "items, here 4 for each CTA. balanced: all tiles in one line, cut where an equal share of the work ends. even: the same "
         "line, cut where an equal share of it as it was before the cuts ends.",
         inputs(kv_lens, SplitPolicy::target).target_units);
  n.table({"policy", "chunk", "items", "makespan", "used %", "tail", "merges", "partials", "workspace"}, rows);
  n.say("used: mean load / makespan. tail: makespan - mean load, the time an average CTA waits for the last. partials: rows "
        "of partial results. workspace: their bytes. Merging is not in the makespan: it is short, and comes after.");
  const double unit = plans.front().makespan / 64;
  for (std::size_t p = 0; p < plans.size(); ++p) {
    n.block(rows[p][0] + "\n" + show_lanes(plans[p], costs[p], unit));
    panels.push_back({rows[p][0], &plans[p], costs[p]});
  }
  n.say("A character is %.0f keys. A letter is a request (P is the longest): capital for a whole tile, small for a piece "
        "of one, which a merge joins to the others. Dots: nothing to do.", unit);
  n.figure("policies", policies_picture(panels, 1, {.title = "One batch, six policies"}, draw::RequestNames::letters),
           "Who runs what, and how long");
  const auto used = [&](SplitPolicy p) { return planner::summarize(plans[static_cast<std::size_t>(p)]).utilisation; };
  n.check_that("balanced and even end first, within 1 % of an equal share",
               used(SplitPolicy::balanced) > 0.99 && used(SplitPolicy::even) > 0.99);
  const Plan two = make_plan(inputs(kv_lens.last(2), SplitPolicy::count));
  n.step("count is made for few requests: of the last two alone, %d and %d keys, it makes %td items of at most %d keys. "
         "More items than CTAs would start a second wave.", kv_lens[14], kv_lens[15], two.num_work(), two.chunk_size);
}

void partials(Narrator& n, std::span<const std::int32_t> kv_lens) {
  n.section("Where the pieces meet again");
  const Plan plan = make_plan(inputs(kv_lens, SplitPolicy::balanced));
  n.step("The items of the longest request (15) under balanced. flags: 1 = holds the first keys of its tile, 2 = the last. "
         "Rows and keys are counted in the request, so masks and positions need not know about cuts.");
  n.block(show_items(plan, 15));
  n.step("A partial is a finished softmax over its keys: normalised o and lse_log2 (chapter 03). Slots are given in key "
         "order by the plan, and merged in that order, whoever comes first: no lock, no atomic addition, the same bits.");
  n.step("So the workspace is known before anything runs: %td rows * (64 + 1) floats * 4 = %zu bytes.", plan.partial_rows,
         plan.workspace_bytes());
  n.check_that("workspace_bytes is that product", plan.workspace_bytes() == std::size_t(plan.partial_rows) * 65 * 4);
}

// Is request b's answer in the batch, bit by bit, what it is alone? A row of the table.
std::vector<std::string> compare_alone(const Case& c, std::int32_t b, SplitPolicy policy, bool& same) {
  const Case single = alone(c, b);
  const Plan one = make_plan(inputs(single.spec.kv_lens, policy)), all = make_plan(inputs(c.spec.kv_lens, policy));
  const auto by_itself = run_plan(single, one, Schedule::stealing), together = run_plan(c, all, Schedule::stealing);
  same = std::equal(by_itself.o.begin(), by_itself.o.end(), together.o.begin() + b * std::ssize(by_itself.o));
  return {name_of(policy), cuts(one, 0), cuts(all, b), same ? "the same" : "different"};
}

void bits(Narrator& n, const Case& c) {
  n.section("Why results change with the batch");
  bool balanced_same = true, fixed_same = false;
  const auto balanced = compare_alone(c, 12, SplitPolicy::balanced, balanced_same);
  const auto fixed = compare_alone(c, 12, SplitPolicy::fixed, fixed_same);
  n.step("Request 12 has %d keys. C4 computes it alone, and with its 15 neighbours. The cuts:", c.spec.kv_lens[12]);
  n.table({"policy", "cuts alone", "cuts in the batch", "bits"}, {balanced, fixed});
  const float a = 1e8f, b = -1e8f;
  n.say("Float addition is not associative: (1e8 - 1e8) + 1 = %g, but 1e8 + (-1e8 + 1) = %g. Other cuts add in another "
        "order, so the last bits differ: no error, but the same prompt may give another token on another day. With a fixed "
        "chunk the cuts depend on the request alone, and so do the bits. The price is the makespan above.", a + b + 1,
        a + (b + 1));
  n.check_that("balanced: other bits; fixed: the same bits", !balanced_same && fixed_same);
}

void stealing(Narrator& n) {
  n.section("Work stealing");
  const std::vector<std::int32_t> items{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, queues{0, 8, 10};  // worker 0 has the first eight
  reference::ThreadPool pool(2);
  std::atomic<bool> started = false;
  std::atomic<int> finished = 0;
  const auto counts = pool.run(items, queues, Schedule::stealing, [&](std::int32_t item, int) {
    if (item == 0) started = true;
    while (item == 0 ? finished < 9 : !started) std::this_thread::yield();  // item 0 outlasts all the others
    ++finished;
  });
  n.step("Costs are predictions. Worker 0 has items 0 to 7, worker 1 has 8 and 9, but item 0 takes as long as all the "
         "others together. A worker with an empty queue takes the last item of another's:");
  n.table({"worker", "own", "stolen"}, {{"0", text("%td", counts[0].own), text("%td", counts[0].stolen)},
                                        {"1", text("%td", counts[1].own), text("%td", counts[1].stolen)}});
  n.say("Who runs an item never shows in a result, because every item writes to a place of its own.");
  n.check_that("worker 1 took what worker 0 could not get to", counts[0].own == 1 && counts[1].stolen == 7);
}

void captured(Narrator& n, std::vector<std::int32_t> kv_lens) {
  n.section("Captured sizes");
  const PlanInputs before = inputs(kv_lens, SplitPolicy::balanced);
  const planner::CaptureLimits limits = usage(make_plan(before), before);
  const bool first_fits = fits(make_plan(before), before, limits);
  n.step("A CUDA graph freezes the grid and every buffer. What may change is what lies in the buffers: a new plan, as long "
         "as it fits. This plan uses %td items, %td merges, %td partial rows, %td pages; captured with that, it can replay.",
         limits.items, limits.merges, limits.partial_rows, limits.pages);
  for (std::int32_t& length : kv_lens) ++length;
  const PlanInputs after = inputs(kv_lens, SplitPolicy::balanced);
  const std::string answer = exceeds(make_plan(after), after, limits);
  n.step("A token later every request has opened a new page: `%s`. So capture with room, and ask before each replay.",
         answer.c_str());
  n.check_that("the plan that was captured fits, the next one does not", first_fits && !answer.empty());
}

void the_rung(Narrator& n, const Case& c) {
  n.section("The rung: C4");
  n.step("C4 executes each of the six plans: items on %d threads, then merges. C3, which it must equal, knows no plan.",
         num_ctas);
  const auto c3 = run_rung(ladder::rung("C3"), c);
  const ladder::Oracle oracle = ladder::make_oracle(c);
  for (const SplitPolicy policy : planner::all_policies) {
    const Plan plan = make_plan(inputs(c.spec.kv_lens, policy));
    const auto run = run_plan(c, plan, Schedule::stealing), again = run_plan(c, plan, Schedule::fixed);
    const ladder::Comparison worst = agree(c, run, &c3, oracle);
    n.check(text("o of C4 with policy %s equals C3's", name_of(policy)), worst.o.error, worst.o.tolerance);
    n.check_that("so does lse_log2, and the bits are the same without stealing",
                 worst.ok() && run.o == again.o && run.lse_log2 == again.lse_log2);
  }
  n.question("Your service must give the same answer to the same prompt, whatever else it serves. Which policy, and what "
             "does it cost on this batch?");
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{5, "Plans", "Who computes what is decided before anything runs, from lengths alone."};
  return walk(argc, argv, chapter, [](Narrator& n) {
    const ladder::CaseSpec spec = skewed_batch();
    the_batch(n, spec.kv_lens);
    packed_rows(n, spec.kv_lens);
    policies(n, spec.kv_lens);
    partials(n, spec.kv_lens);
    const Case c = draw_case(spec);
    bits(n, c);
    stealing(n);
    captured(n, spec.kv_lens);
    the_rung(n, c);
  });
}
