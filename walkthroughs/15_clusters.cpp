// Chapter 15: clusters (D7). Where a short batch's tiles meet in D6; what a cluster is, and how many a GPU holds; one tile
// dealt to 64 warps; its rows joined by reading the neighbours' shared memory; the two places and the one barrier that this
// takes; tiles that are cut all the same; for which batches it pays. Ends with D7's plan on modelled clusters.
#include <algorithm>
#include <cmath>
#include <map>

#include "draw/bar_chart.hpp"
#include "ladder/cases/drawn/draw_case.hpp"
#include "planner/planner.hpp"
#include "walkthroughs/cluster_pays.hpp"
#include "walkthroughs/cluster_run.hpp"
#include "walkthroughs/cluster_story.hpp"
#include "walkthroughs/narrate.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;

namespace {

const ShortBatch one_short{"B1 kv1024 32/8", {1024}, 32, 8};
const ShortBatch two_long{"B2 kv16384 8/1", {16384, 16384}, 8, 1};
const ShortBatch seven{"B7 kv2000..3000 24/2", {2000, 2160, 2330, 2500, 2670, 2830, 3000}, 24, 2};
const ShortBatch many{"B32 kv2048 32/8", std::vector<std::int32_t>(32, 2048), 32, 8};

// The chapter's tile: KV head 0 of B1 kv1024 32/8, in fp16.
ladder::Case the_case() {
  return ladder::draw_case({.name = "one short", .seed = 15, .qo_lens = {1}, .kv_lens = one_short.kv_lens,
                            .params = {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128,
                                       .sm_scale = 0.0883883461f}, .dtype = DType::f16});
}
const WorkItem the_tile{.rows = {0, 4}, .keys = {0, 1024}};

void where_tiles_meet(Narrator& n) {
  n.section("Where a short batch's tiles meet");
  const Plan plan = one_short.d6_plan();
  const std::vector<WorkItem> pieces = pieces_of_tile(plan, 0, 0);
  n.step("The tile of this chapter: request 0, KV head 0 of %s, 4 packed rows against %d keys. D6 has %d CTAs and 8 such "
         "tiles, so its plan cuts each of them in %zu pieces, the first of %d keys. Each piece leaves 4 rows of partials in "
         "global memory, 129 floats each, and counts; the last CTA reads all %zu.",
         one_short.name.c_str(), the_tile.keys.end, plan.num_ctas(), pieces.size(), pieces[0].keys.size(),
         4 * pieces.size());
  n.step("The same for whole batches. pieces: of one tile, at most. CTAs: those that have work. Partials are written and "
         "read again; beside them stand the batch's keys and values:");
  std::vector<std::vector<std::string>> rows;
  for (const ShortBatch* b : {&one_short, &two_long, &seven, &many}) {
    const Plan of = b->d6_plan();
    rows.push_back({b->name, text("%d", b->tiles()), text("%d", most_pieces(of)),
                    text("%d", of.num_ctas() - planner::summarize(of).idle_ctas), text("%td", of.partial_rows),
                    text("%.2f", mib(2 * of.workspace_bytes())), text("%.1f", mib(b->kv_bytes())),
                    text("%.1f", 100.0 * 2 * of.workspace_bytes() / b->kv_bytes())});
  }
  n.table({"batch", "tiles", "pieces", "CTAs", "partial rows", "MiB of partials", "MiB of K and V", "%"}, rows);
  n.say("Bytes are not what hurts. Between a CTA's last key and the row in o lie a write, a count and a read, one after the "
        "other, each a trip to memory; and one CTA does the adding for all.");
  n.check_that("the plan cuts the short batches' tiles, all of them", most_pieces(plan) > 1 && plan.num_merges() == 8);
}

void what_a_cluster_is(Narrator& n) {
  n.section("A cluster");
  n.step("A cluster is %d CTAs that run at the same time, on SMs of one GPC. An SM holds two of D7's CTAs, so a GPC of s "
         "SMs holds 2 s / %d clusters, rounded down. An H100 or H200 has 132 SMs, 66 pairs, in 8 GPCs of at most 9 pairs; "
         "which 6 pairs are missing differs from chip to chip. All ways in which they could be missing:",
         cluster_ctas, cluster_ctas);
  std::vector<std::vector<std::string>> rows;
  std::map<int, int> ways;
  for (const std::vector<int>& missing : ways_to_miss(6, 8)) {
    int clusters = 0;
    std::string gpcs;
    for (const int pairs : missing) {
      clusters += (9 - pairs) * 2 * 2 / cluster_ctas;
      gpcs += (gpcs.empty() ? "" : " ") + text("%d", 18 - 2 * pairs);
    }
    ++ways[clusters];
    rows.push_back({gpcs, text("%d", clusters)});
  }
  n.table({"SMs of the 8 GPCs", "clusters"}, rows);
  n.say("264 CTAs / %d would be %d. That many fit in %d of %zu ways, and 14 in %d of them. So D7 asks the driver, and plans "
        "for what it says. 14 clusters are %d CTAs.",
        cluster_ctas, 264 / cluster_ctas, ways[16], rows.size(), ways[14], 14 * cluster_ctas);
  n.check_that("from 13 to 16, never more", ways.begin()->first == 13 && ways.rbegin()->first == 16);
}

void dealt(Narrator& n) {
  n.section("One tile for 64 warps");
  n.step("Tile t of 16 tokens belongs to warp t %% %d of the cluster, four warps a CTA. The %d keys of our tile:",
         cluster_warps, the_tile.keys.end);
  std::string deal;
  for (const int rank : {0, 1, 2, 15}) {
    deal += text("CTA %2d  ", rank);
    for (int w = 0; w < warps_of_cta; ++w) {
      const int first = (rank * warps_of_cta + w) * 16;
      deal += text("  warp %2d: %4d .. %4d", rank * warps_of_cta + w, first, first + 15);
    }
    deal += rank == 2 ? "\n...\n" : "\n";
  }
  n.block(deal);
  const int tiles = (3000 + 15) / 16, most = (tiles + cluster_warps - 1) / cluster_warps;
  n.say("Each warp has one tile, so all %d KB of K and V are under way at once. %d keys are %d tiles: %d warps have %d of "
        "them, %d have %d.", 1024 * 512 / 1024, 3000, tiles, tiles - cluster_warps * (most - 1), most,
        cluster_warps * most - tiles, most - 1);
}

void first_ones_tiles(Narrator& n, const ladder::Case& c, const Rows& right) {
  n.step("What would come if every CTA took the first one's tiles, as if its warps were all there are? Keys 0 .. 63 "
         "are then counted %d times and the other %d not at all:", cluster_ctas, the_tile.keys.end - 64);
  const AttentionProblem problem = c.problem();
  WorkItem few = the_tile;
  few.keys.end = 64;
  const Rows wrong = join_plainly(find_parts(problem, the_tile, [](int) { return 0; }));
  const Rows of_64 = attend_on_tensor_cores(problem, few);
  const auto line = [](const char* what, const walkthroughs::FinishedRow& row) {
    const float o = row.o[0] * row.state.inverse_d();
    return std::vector<std::string>{what, text("%.3f", o), text("%.3f", row.state.lse_log2())};
  };
  n.table({"row 0", "o[0]", "lse_log2"}, {line("right", right[0]), line("every CTA the first one's tiles", wrong[0]),
                                          line("attention over keys 0 .. 63", of_64[0])});
  n.say("o is that of 64 keys, since a weighted mean does not change when all weights are 16 times as large. lse_log2 is "
        "larger by log2 16 = 4.");
  n.check("lse_log2 is larger by 4", wrong[0].state.lse_log2() - of_64[0].state.lse_log2() - 4, 1e-4);
}

void joined(Narrator& n, const ladder::Case& c, const CtaParts& parts) {
  n.section("Rows are joined by reading the neighbours");
  const Rows rows = Cluster({}, {parts}).run(lowest_first())[0];
  n.step("Then each CTA has found something of each of the 4 rows: m, d and 128 numbers of o, over its 64 keys. Row r is "
         "joined by a warp of CTA r, which reads row r of all %d. Row 0, in CTA 0 (log2 units; weight: 2^(m - the largest "
         "m)):", cluster_ctas);
  std::vector<std::vector<std::string>> table;
  float most = SoftmaxState<float>::nothing;
  for (const Rows& part : parts) most = std::max(most, part[0].state.m);
  for (const int rank : {0, 1, 2, 3, 14, 15}) {
    if (rank == 14) table.push_back({"...", "", "", "", ""});
    const walkthroughs::FinishedRow& part = parts[rank][0];
    table.push_back({text("%d", rank), text("%.2f", part.state.m), text("%.2f", part.state.d),
                     text("%.2f", SoftmaxState<float>::weight(part.state.m, most)), text("%.2f", part.o[0])});
  }
  table.push_back({"all 16", text("%.2f", rows[0].state.m), text("%.2f", rows[0].state.d), "", text("%.2f", rows[0].o[0])});
  n.table({"CTA", "m", "d", "weight", "o[0]"}, table);
  n.say("Divided by d, o[0] is %.3f. Four CTAs have a row to join, and 12 have none: they go on to the next item, or end.",
        rows[0].o[0] * rows[0].state.inverse_d());
  const ladder::Oracle oracle = ladder::make_oracle(c, DType::f16);
  bool close = true;
  for (int r = 0; r < 4; ++r) {
    const auto& state = rows[r].state;
    close = close && std::abs(state.lse_log2() - oracle.lse_log2[r]) <= oracle.tolerance[r].lse_log2;
    for (int f = 0; f < 128; ++f) {
      close = close && std::abs(rows[r].o[f] * state.inverse_d() - oracle.o[r * 128 + f]) <= oracle.tolerance[r].o;
    }
  }
  n.check_that("the four joined rows are the oracle's: o and lse_log2", close);

  n.step("Bytes of partials, by the plans. D6: written to global memory and read again. D7: put into the CTA's own shared "
         "memory, 130 floats a row, and read by a neighbour; only what is cut among clusters goes through global memory:");
  std::vector<draw::Bar> bars;
  std::vector<std::vector<std::string>> bytes;
  for (const ShortBatch* b : {&one_short, &two_long, &seven}) {
    const Plan d6 = b->d6_plan(), d7 = b->d7_plan(b->clusters(14));
    const double in_clusters = 2.0 * cluster_bytes(d7);
    bytes.push_back({b->name, text("%.0f", 2 * d6.workspace_bytes() / 1024.0), text("%d", d7.num_ctas()),
                     text("%.0f", 2 * d7.workspace_bytes() / 1024.0), text("%.0f", in_clusters / 1024)});
    bars.push_back({b->name + ", D6", {2.0 * d6.workspace_bytes(), 0}});
    bars.push_back({"D7", {2.0 * d7.workspace_bytes(), in_clusters}});
  }
  n.table({"KB of partials", "D6, global", "clusters", "D7, global", "D7, in clusters"}, bytes);
  n.figure("partials", draw::bar_chart(bars, {.caption = {"Partials, written and read", ""}, .unit = "B",
                                              .part_names = {"in global memory", "in a cluster's shared memory"}}),
           "Where partials meet");
}

void places(Narrator& n, const std::vector<CtaParts>& items) {
  n.section("Two places in turn, one barrier an item");
  const ShortBatch uneven{"", {3000, 200, 200, 200, 200, 200, 200}, 24, 2};
  const Plan plan = uneven.d7_plan(uneven.clusters(14));
  n.step("Where lengths differ, a cluster has several items: one request of 3000 keys and six of 200, 24/2, are %td items "
         "for %d clusters.", plan.num_work(), plan.num_ctas());
  n.step("A cluster with three items in its queue, the tiles of KV heads 0, 1 and 2. A CTA may overwrite its rows only when "
         "every neighbour has read them, and end only then. Each protocol in %d orders in which the CTAs may run. wrong "
         "rows: of 12, in the worst order; NaN: those with a NaN, which stands for memory that was never written or is "
         "gone:", tried_orders);
  std::vector<Rows> right;  // without a cluster: no protocol makes it wrong
  for (const CtaParts& parts : items) right.push_back(join_plainly(parts));
  std::vector<std::vector<std::string>> table;
  std::vector<Trial> trials;
  for (const auto& [name, barriers, protocol] :
       {std::tuple{"two places, one barrier (D7)", 1, Protocol{}},
        {"one place, a barrier behind the reads too", 2, Protocol{.places = 1, .barrier_behind_reads = true}},
        {"one place, one barrier", 1, Protocol{.places = 1}}, {"two places, no barrier", 0, Protocol{.barrier = false}},
        {"two places, one barrier, none at the end", 1, Protocol{.last_barrier = false}}}) {
    const Trial trial = try_orders(protocol, items, right);
    trials.push_back(trial);
    table.push_back({name, text("%d", barriers), text("%d", trial.wrong_orders), text("%d", trial.most_wrong),
                     text("%d", trial.most_nan)});
  }
  n.table({"protocol", "barriers an item", "wrong orders", "wrong rows", "NaN"}, table);
  const Rows mixed = Cluster({.places = 1}, items).run(highest_first())[0];
  n.say("With one place and one barrier CTA 15, which has no row to join, puts its part of the second tile where CTA 0 has "
        "yet to read the first one's: row 0 gets lse_log2 %.2f in the place of %.2f, with no NaN to show it.",
        mixed[0].state.lse_log2(), right[0][0].state.lse_log2());
  n.check_that("D7's protocol is right in all orders, and so is one place with two barriers",
               trials[0].wrong_orders == 0 && trials[1].wrong_orders == 0);
  n.check_that("each of the other three is wrong in some", trials[2].wrong_orders > 0 && trials[3].wrong_orders > 0 &&
                                                               trials[4].wrong_orders > 0);
}

void still_cut(Narrator& n) {
  n.section("Tiles that are cut all the same");
  const Plan plan = two_long.d7_plan(two_long.clusters(14));
  const Merge tile = plan.parts.front().merge(0);
  n.step("%s, for which decode takes %d clusters: each of the 2 tiles is cut in %d pieces, one a cluster, and leaves %td "
         "rows of partials where D6 leaves %td. Row r of a tile is one warp's in every cluster. Each row has a counter of "
         "its own, and the warp that counts last merges this row.", two_long.name.c_str(), plan.num_ctas(),
         tile.num_partials, plan.partial_rows, two_long.d6_plan().partial_rows);
  n.step("If all rows of a tile shared one counter that wraps after %d: say the clusters come one after the other, and the "
         "rows of each in order. Which rows are told to be last, and how many of their %d partials are there:",
         tile.num_partials, tile.num_partials);
  std::vector<std::string> header{"row"}, there{"partials there"};
  int early = 0;
  for (const auto& [row, partials] : told_by_a_shared_counter(tile)) {
    header.push_back(text("%d", row));
    there.push_back(text("%d", partials));
    early += partials < tile.num_partials;
  }
  n.table(header, {there});
  n.say("%d of %d rows are merged too early. A counter that waits for all %d arrivals would be right, but then one warp "
        "merges 8 rows, and waits for the slowest of them.", early, tile.rows.size(), tile.num_partials * tile.rows.size());
  n.check_that("a shared counter merges rows whose partials are missing", early > 0);
}

void when_it_pays(Narrator& n, const ClusterTimes& times) {
  n.section("When it pays");
  expected_of_batches(n, times, {one_short, {"B1 kv4096 32/8", {4096}, 32, 8}, {"B1 kv8192 32/8", {8192}, 32, 8},
                                 {"B1 kv1024 8/1", {1024}, 8, 1}, {"B1 kv16384 8/1", {16384}, 8, 1}, two_long, seven,
                                 {"B4 kv2048 32/8", {2048, 2048, 2048, 2048}, 32, 8}, many});
  chosen_clusters(n, times);
  what_was_gained(n, times);
  how_near(n, times);
}

void the_rung(Narrator& n) {
  n.section("The rung: D7, on a CPU");
  const ladder::Case c = ladder::draw_case({.name = "clusters", .seed = 7, .qo_lens = {1, 1, 1, 1},
                                            .kv_lens = {2500, 33, 0, 210},
                                            .params = {.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64,
                                                       .head_dim_vo = 64, .sm_scale = 0.125f}, .dtype = DType::f16});
  const Plan plan = planner::make_plan({.kv_lens = c.spec.kv_lens, .num_qo_heads = 8, .num_kv_heads = 2,
                                        .machine = {.num_sms = 3, .ctas_per_sm = 1}});
  n.step("Three threads as three clusters of 16 modelled CTAs, each with its queue (%td items in all, %td merges), two "
         "places and one barrier; a counter for each row.", plan.num_work(), plan.num_merges());
  const ladder::RunResult below = run_rung(ladder::rung("C4"), c), clusters = run_clusters(c, plan, 1);
  const ladder::Comparison worst = agree(c, clusters, &below, ladder::make_oracle(c, DType::f16));
  n.check_that("it equals C4 and the oracle: o and lse_log2", worst.ok(), text("%.2g of the tolerance", worst.ratio()));
  bool same = true;
  for (std::uint32_t seed = 2; seed < 12; ++seed) same = same && run_clusters(c, plan, seed).o == clusters.o;
  n.check_that("ten more runs, their CTAs in other orders, give the same bits", same);
  n.question("A tile of 16 rows takes 16 CTAs to join it. What changes in step 9 if every CTA has a row to read?");
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{15, "Clusters", "The CTAs of a cluster share a tile, and meet in each other's shared memory."};
  std::int32_t group = 0;
  const auto story = [&](Narrator& n) {
    const ladder::Case c = the_case();
    std::vector<CtaParts> items;  // of KV heads 0, 1, 2: the chapter's tile and its neighbours
    for (WorkItem tile = the_tile; tile.head < 3; ++tile.head) items.push_back(find_parts(c.problem(), tile));
    const ClusterTimes times;
    where_tiles_meet(n);
    what_a_cluster_is(n);
    dealt(n);
    first_ones_tiles(n, c, join_plainly(items[0]));
    joined(n, c, items[0]);
    places(n, items);
    still_cut(n);
    when_it_pays(n, times);
    the_rung(n);
    if (group > 0) every_time(n, times, group);
  };
  return walk(argc, argv, chapter, story, {{"--times", "Also every time that was taken of a group, 4 or 8", &group, 0, 8}});
}
