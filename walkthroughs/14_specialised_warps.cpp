// Chapter 14: specialised warps (P6 to P11). Who copies, who computes, who waits: the schedules of the rungs on a model of
// one SM, barriers that are used wrongly, and the marks that P11 left on a GPU.
#include "walkthroughs/marked_works.hpp"
#include "walkthroughs/narrate.hpp"
#include "walkthroughs/sm_pictures.hpp"
#include "walkthroughs/sm_schedules.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;

namespace {

std::vector<ModelWork> works(int count, int tiles) {
  return std::vector<ModelWork>(static_cast<std::size_t>(count), {tiles});
}
Schedule with_groups(Schedule s, int groups) {
  s.groups = groups, s.turns = s.turns && groups > 1;
  return s;
}
Schedule late(Schedule s, int clocks) {
  s.group_1_late = clocks;
  return s;
}
// Clocks between tiles far from the ends, and of a work of so many tiles with what lies between two of them.
double tile_clocks(const Schedule& s, const SmClocks& c = {}) {
  return (run_model(s, works(1, 96), c).clocks - run_model(s, works(1, 64), c).clocks) / 32.0;
}
double work_clocks(const Schedule& s, int tiles, const SmClocks& c = {}) {
  return (run_model(s, works(12, tiles), c).clocks - run_model(s, works(4, tiles), c).clocks) / 8.0;
}
int product_clocks(const SmClocks& c = {}) { return c.wgmma * c.of_product; }
std::string busy(const Schedule& s, int tiles, double clocks) {
  return text("%.0f", 100 * s.groups * 2 * product_clocks() * tiles / clocks);
}

void few_numbers(Narrator& n) {
  n.section("One SM in few numbers");
  const SmClocks c;
  n.step("A model of one SM, for tiles of 128 keys, head_dim 128, 64 rows a warp group. What it is told, in clocks:");
  n.table({"clocks", "what", "from where"},
          {{text("%d", product_clocks(c)), "a product, 8 wgmma", "arithmetic: 2048 multiply-adds a clock"},
           {text("%d", 8 * c.exponents), "exponents of a tile", "arithmetic: 16 a clock"},
           {text("%d", c.rest), "scale, sums, rounding", "a guess: with the exponents 700"},
           {text("%d", c.maximum), "maximum of each row", "counted: 68 maxima, 4 shuffles"},
           {text("%d", c.rescale), "O rescaled", "counted: 64 multiplications"},
           {text("%d", c.mask), "masks of a first tile", "recorded: the last section"},
           {text("%d", c.store), "rows of a work stored", "recorded: the last section"},
           {text("%d", c.latency), "from asking for a tile until it is there", "a guess"},
           {text("%d", c.transfer), "between two tiles that come, at least", "a guess: 64 bytes a clock"}});
  n.say("The tensor cores are there once: they take the oldest wgmma that a group has started. A group may have %d of them "
        "that are not done, then it waits with the next. The unit for exponents is there once too, and serves the groups in "
        "turn, %d clocks each. All other work a group does by itself. A tile of both groups is four products: %d clocks, "
        "and no schedule takes less.", c.room, c.exponents, 4 * product_clocks(c));
}

void one_after_the_other(Narrator& n) {
  n.section("Who copies: P6 and P7");
  const ModelRun six = run_model(p6, works(1, 6)), seven = run_model(p7, works(1, 6));
  n.step("P6: each group waits for each of its products, and warp 0 of group 0 asks for the tiles as well. P: a product of "
         "the group is computed; s: softmax; B: both; a dot: it waits. Tensor cores: whom they serve; * both. A character "
         "is 128 clocks, from the 2000th on:");
  n.block(show_run(six, 2, 2000, 2000 + 66 * 128));
  n.step("P7: a warp of its own asks, as soon as there is room:");
  n.block(show_run(seven, 2, 2000, 2000 + 66 * 128));
  n.check_that("the same tiles, and P7 ends earlier", seven.ended && six.ended && seven.clocks < six.clocks);
  n.say("Six tiles take %d clocks in P6 and %d in P7. In P6 the place of a tile is asked for again only after group 0's own "
        "products, and when group 1, which may be behind, has released it; the tile comes %d clocks later. With two places "
        "in the ring there is one tile to work on meanwhile.", six.clocks, seven.clocks, SmClocks{}.latency);
}

void turns(Narrator& n) {
  n.section("Who computes: two groups, and their turns");
  std::vector<std::vector<std::string>> rows;
  for (const Schedule& s : {p7, p8, p10, p11}) {
    rows.push_back({s.name});
    for (const int groups : {1, 2}) {
      const double clocks = tile_clocks(with_groups(s, groups));
      rows.back().push_back(text("%.0f", clocks));
      rows.back().push_back(text("%.0f", 100 * groups * 2 * product_clocks() / clocks));
    }
  }
  n.step("Why two groups and not one? Clocks of a tile in the middle of a long work, and how busy the tensor cores are, in "
         "%%. Both groups begin at the same time:");
  n.table({"", "one group", "busy", "two groups", "busy"}, rows);
  const SmClocks in_turn{.serves = Serves::in_turn};
  const ModelRun without = run_model(p8_no_turns, works(1, 12), in_turn), with = run_model(p8, works(1, 12), in_turn),
                 oldest = run_model(p8_no_turns, works(1, 12));
  n.step("P8 starts S of a tile together with P V of the one before, and computes exponents during P V. Here the tensor "
         "cores serve the groups in turn, a wgmma each. Both begin at the same time, without turns:");
  n.block(show_run(without, 2, 2000, 2000 + 66 * 128));
  n.say("With turns:");
  n.block(show_run(with, 2, 2000, 2000 + 66 * 128));
  n.step("Without turns again, but the tensor cores take the oldest wgmma:");
  n.block(show_run(oldest, 2, 2000, 2000 + 66 * 128));
  n.figure("turns", runs_picture({{"without turns, groups served in turn", &without, 1000, 10600},
                                  {"with turns, groups served in turn", &with, 1000, 10600},
                                  {"without turns, the oldest wgmma first", &oldest, 1000, 10600}},
                                 {"P8 without turns and with them", "Numbers are tiles; a model, 9600 clocks"}),
           "P8 without turns and with them, by whom the tensor cores serve");
  rows.clear();
  bool same = true;
  for (const Schedule& s : {p7, p8_no_turns, p8, p11}) {
    rows.push_back({s.name});
    for (const SmClocks& c : {in_turn, SmClocks{}}) {
      for (const int clocks : {0, 200, 800}) {
        const int sixteen = run_model(late(s, clocks), works(1, 16), c).clocks;
        rows.back().push_back(text("%.0f", (sixteen - run_model(late(s, clocks), works(1, 8), c).clocks) / 8.0));
        same = same && (s.name != p8.name || rows.back().back() == text("%d", 4 * product_clocks()));
      }
    }
  }
  n.step("Does it matter how the groups begin? Clocks of a tile, the mean of tiles 8 to 15, if group 1's first product "
         "begins so many clocks behind group 0's; served in turn, then the oldest first:");
  n.table({"", "in turn: 0", "200", "800", "oldest: 0", "200", "800"}, rows);
  n.check_that("with turns a tile takes 2048 clocks, however they begin, whomever they serve", same);
}

void between_works(Narrator& n) {
  n.section("Who waits: from one work to the next");
  const ModelRun eight = run_model(p8, works(3, 4)), nine = run_model(p9, works(3, 4)), eleven = run_model(p11, works(3, 4));
  const auto store_of = [](const ModelRun& run) {  // where the first work's rows begin to be stored
    for (const LaneBar& b : run.bars) {
      if (b.lane == Lane::group_0 && b.tile < 0) return b.begin;
    }
    return 0;
  };
  const int before = 24 * 128;
  const auto panel = [&](const char* name, const ModelRun& run) {
    return RunPanel{name, &run, store_of(run) - before, store_of(run) - before + 9600};
  };
  const auto shown = [&](const ModelRun& run) { return show_run(run, 2, store_of(run) - before, store_of(run) + 42 * 128); };
  n.step("Works of 4 tiles. P8, a CTA a work; group 0's rows of the first work begin to be stored in the 25th character:");
  n.block(shown(eight));
  n.step("P9, a CTA that stays:");
  n.block(shown(nine));
  n.step("P11: the next work's first product is started before the rows of this one are stored:");
  n.block(shown(eleven));
  n.figure("border", runs_picture({panel("P8", eight), panel("P9", nine), panel("P11", eleven)},
                                  {"From one work to the next", "Works of four tiles; a model, 9600 clocks. In the row of "
                                   "keys a work's queries come first."}), "P8, P9 and P11 between two works of four tiles");
}

void all_rungs(Narrator& n) {
  n.section("All rungs, in the model");
  std::vector<std::vector<std::string>> rows;
  double least = 1e9;
  bool falls = true;
  for (const Schedule& s : {p6, p7, p8, p9, p10, p11}) {
    const double tile = tile_clocks(s), sixteen = work_clocks(s, 16), four = work_clocks(s, 4);
    rows.push_back({s.name, text("%.0f", tile), text("%.0f", sixteen), busy(s, 16, sixteen), text("%.0f", four),
                    busy(s, 4, four)});
    falls = falls && (four <= least || s.loop >= Loop::stale);
    least = four;
  }
  n.step("Clocks of a tile in the middle of a long work; of a whole work of 16 and of 4 tiles, all that lies between two "
         "works included; and how busy the tensor cores are, in %%:");
  n.table({"", "a tile", "a work of 16", "busy", "a work of 4", "busy"}, rows);
  n.check_that("each rung up to P9 takes less than the one below", falls);
  rows.clear();
  for (const int rest : {188, 500, 800, 1100}) {
    const SmClocks c{.rest = rest};
    rows.push_back({text("%d", c.softmax(true)), text("%d", c.softmax(false))});
    for (const Schedule& s : {p7, p9, p10, p11}) rows.back().push_back(text("%.0f", tile_clocks(s, c)));
  }
  n.step("What a slower softmax would do: clocks of a tile, if scaling, sums and rounding take longer:");
  n.table({"softmax, running", "stale", p7.name, p9.name, p10.name, p11.name}, rows);
  rows.clear();
  Schedule apart = p9;
  apart.values_apart = true;
  for (const int latency : {500, 1000, 1500, 2000, 2500}) {
    rows.push_back({text("%d", latency)});
    for (const Schedule& s : {p7, p9, apart, p11}) rows.back().push_back(text("%.0f", tile_clocks(s, {.latency = latency})));
  }
  n.step("And tiles that come later. In P11 a warp asks for keys and another for values; also tried with P9:");
  n.table({"clocks until they come", p7.name, p9.name, "P9, two ask", p11.name}, rows);
}

struct WrongWay {
  const char* what;
  Schedule rule;
  ModelWork work;
};
void wrong_ways(Narrator& n) {
  n.section("Barriers used wrongly");
  const auto wrong = [](Schedule s, auto change) {
    change(s);
    return s;
  };
  const auto filled = [](Schedule& s) { s.waits_for_filled = true; };
  const auto silent = [](Schedule& s) { s.empty_group_releases = false; };
  const WrongWay ways[] = {
      {"P8 without priming", wrong(p8, [](Schedule& s) { s.primed = false; }), {8}},
      {"P7, the producer waits for the tile just filled", wrong(p7, filled), {8}},
      {"P8, the same", wrong(p8, filled), {8}},
      {"P9, a group without rows does not release", wrong(p9, silent), {8, false}},
      {"P9, a group alone takes turns", wrong(p9, [](Schedule& s) { s.alone_takes_turns = true; }), {8, false}}};
  n.step("A work of 8 tiles. In the last two, group 1 has no rows. If nothing can happen any more and somebody still waits, "
         "the model says who, and for what:");
  std::vector<std::vector<std::string>> rows;
  int stuck = 0;
  for (const WrongWay& way : ways) {
    const ModelRun run = run_model(way.rule, {way.work});
    rows.push_back({way.what, run.ended ? text("ends after %d clocks", run.clocks) : "nobody goes on"});
    for (const auto& [who, what] : run.waiting) rows.push_back({"", who + " waits for " + what});
    stuck += run.ended ? 0 : 1;
  }
  n.table({"", "what happens"}, rows);
  bool right = true;
  for (const Schedule& s : {p6, p7, p8, p9, p10, p11}) {
    right = right && run_model(s, {{8}, {5, false}, {1}, {3}}).ended;
  }
  n.say("As it should be, P7 takes %d clocks and P8 %d.", run_model(p7, works(1, 8)).clocks,
        run_model(p8, works(1, 8)).clocks);
  n.check_that("four of the five never end", stuck == 4);
  n.check_that("P6 to P11 as they are end, also where a group has no rows", right);
}

std::string listed(const std::vector<int>& numbers, std::size_t most) {
  std::string out;
  for (std::size_t i = 0; i < std::min(numbers.size(), most); ++i) out += text("%s%d", i > 0 ? " " : "", numbers[i]);
  return out;
}

void recorded(Narrator& n) {
  n.section("P11 on a real SM");
  const MarkedWorks real = recorded_works();
  std::vector<ModelWork> same_works;
  std::string tiles;
  for (const MarkedWork& w : real.groups[0]) {
    same_works.push_back({w.tiles()});
    tiles += text("%s%d", tiles.empty() ? "" : " ", w.tiles());
  }
  const MarkedWorks model = marked_works(run_model(p11, same_works));
  n.step("P11 with marks, recorded on an %s: 4 causal requests of 2048 tokens, 32 query heads on 8 KV heads, pages of 16. "
         "CTA 5 claimed %zu works, of %s tiles. Clocks from mark to mark, medians of both groups without their first works, "
         "and the model's for the same works:", real.machine.c_str(), real.groups[0].size(), tiles.c_str());
  std::vector<std::vector<std::string>> rows;
  const auto row = [&](const char* what, int from, int to) {
    rows.push_back({text("%d to %d", from, to), what, text("%d", median_clocks(real, from, to)),
                    text("%d", median_clocks(model, from, to))});
  };
  row("rows and masks of a new work", 1, 5), row("the first P is made", 5, 6), row("a turn of the loop", 11, 11);
  row("from the loop until the last P V is done", 8, 14);
  const auto part = [&](const char* what, int from, int to) {
    rows.push_back({text("%d to %d", from, to), what, text("%d", median_clocks(real, from, to)), ""});
  };
  part("- it is started", 8, 20), part("- the softmax is finished", 20, 9), part("- the next queries are loaded", 9, 12);
  part("- the next first product is started", 12, 13), part("- it is seen to be done", 13, 14);
  row("rows on their way", 14, 15);
  n.table({"marks", "", "recorded", "model"}, rows);
  const WorkLine line = fitted(real), modelled = fitted(model);
  n.say("By least squares a work takes %.0f clocks a tile and %.0f more; in the model %.0f and %.0f.", line.of_tile,
        line.of_work, modelled.of_tile, modelled.of_work);
  bool alike = true;
  for (std::size_t w = 0; w < real.groups[0].size(); ++w) {
    alike = alike && w < real.groups[1].size() && real.groups[0][w].marks == real.groups[1][w].marks;
  }
  n.check_that("both groups passed the same marks in all works", alike);
  const MarkedWork& first = real.groups[0][3];
  const int begin = first.clocks[0] - 1500, end = begin + 48000, border = first.when(8) - 5000;
  const MarkedWork& modelled_first = model.groups[0][3];
  const int model_begin = modelled_first.clocks[0] - 1500;
  n.figure("p11_marks", marked_picture({{"recorded: two works", &real, begin, end},
                                        {"recorded: from the first to the second", &real, border, border + 15000},
                                        {"model: the same two works", &model, model_begin, model_begin + 48000}},
                                       {"P11's warp groups on an SM", "From mark to mark; numbers are the mark at the "
                                        "beginning. 11: a turn of the loop. " + real.machine}),
           "P11's two warp groups from mark to mark, recorded and in the model");
  n.step("P11 takes no turns. Group 0 begins a turn of the loop so many clocks behind group 1, turn after turn:");
  rows.clear();
  for (const std::size_t w : {std::size_t{0}, std::size_t{1}, std::size_t{10}}) {
    rows.push_back({text("%zu", w), listed(behind(real, w), 8), listed(behind(model, w), 8)});
  }
  n.table({"work", "recorded", "model"}, rows);
  const std::vector<int> apart = behind(real, 0);
  const int turn = median_clocks(real, 11, 11);
  n.check_that(text("from %d clocks apart to between a third and two thirds of a turn, in two turns", apart[0]),
               8 * apart[0] < turn && 3 * apart[2] > turn && 3 * apart[2] < 2 * turn);
  n.question("The groups of P11 fall out of step by themselves. P10's take turns. What would you record to find out whether "
             "they need to?");
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{14, "Specialised warps", "Who copies, who computes, who waits."};
  return walk(argc, argv, chapter, [](Narrator& n) {
    few_numbers(n);
    one_after_the_other(n);
    turns(n);
    between_works(n);
    all_rungs(n);
    wrong_ways(n);
    recorded(n);
  });
}
