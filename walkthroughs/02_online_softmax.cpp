// Chapter 02: one row of attention in one pass over tiles of keys, with m, d and o before and after each rescale; why o may
// be rescaled at all; what the order of the two loops costs in bytes (FlashAttention 1 against 2); what memory on the chip
// saves, and when attention waits for memory or for arithmetic; logits near 100000.
#include <algorithm>
#include <cmath>

#include "draw/bar_chart.hpp"
#include "draw/softmax_timeline.hpp"
#include "reference/c0_naive.hpp"
#include "reference/c1_online_softmax.hpp"
#include "walkthroughs/intensity.hpp"
#include "walkthroughs/toy.hpp"
#include "walkthroughs/toy_row.hpp"
#include "walkthroughs/traffic.hpp"

using namespace flashladder;
using namespace flashladder::reference;
using namespace flashladder::walkthroughs;
using State = SoftmaxState<float>;

namespace {

std::string state_text(const char* name, const State& state, const Eigen::RowVectorXf& o) {
  return text("%-18s%s  %s   %s\n", name, number_text(state.m, "%7.4f").c_str(), number_text(state.d, "%7.4f").c_str(),
              row_text(o, "%7.4f").c_str());
}

// Walks the row tile by tile with C1's own step and returns the accumulator at the end.
Accumulator walk_tiles(Narrator& n, const ToyRow& row, std::int32_t keys_per_tile) {
  const auto kv_len = static_cast<std::int32_t>(row.k.rows());
  Accumulator acc;
  acc.reset(1, 4);
  Matrix<float> s;
  std::vector<draw::SoftmaxStep> timeline;
  for (std::int32_t j = 0; j < kv_len; j += keys_per_tile) {
    const std::int32_t size = std::min(keys_per_tile, kv_len - j);
    const State before = acc.states[0];
    const Eigen::RowVectorXf o_before = acc.o.row(0);
    c1::absorb_keys(row.tile, RowsView(row.k.row(j).data(), size, 4, row.k.outerStride()),
                    RowsView(row.v.row(j).data(), size, 4, row.v.outerStride()), j, s, acc);
    const State after = acc.states[0];
    const float rescale = State::weight(before.m, after.m);
    const Eigen::RowVectorXf x = row.x.segment(j, size), rescaled = o_before * rescale;

    const char* news = before.m == State::nothing ? "A first maximum"
                       : after.m > before.m       ? "The maximum grows" : "The maximum stays";
    n.step("Keys %d to %d, x = %s. %s: the old d and o are multiplied by 2^(old m - new m) = %.4f.", j, j + size - 1,
           row_text(x, "%.4f").c_str(), news, rescale);
    n.block("                  m        d         o\n" + state_text("before", before, o_before) +
            state_text("rescaled", {after.m, before.d * rescale}, rescaled) +
            state_text("this tile adds", {after.m, s.row(0).sum()}, s.row(0) * row.v.middleRows(j, size)) +
            state_text("after", after, acc.o.row(0)));
    timeline.push_back({text("keys %d..%d", j, j + size - 1), {x.begin(), x.end()}, after.m, after.d, rescale});
  }
  n.figure("timeline", draw::softmax_timeline(timeline, {"One row, tile by tile", "what C1 keeps of ten logits"}),
           "The running maximum, the sum and the rescale weight of this row.");
  return acc;
}

void one_row(Narrator& n, const ToyRow& row, std::int32_t keys_per_tile) {
  n.section("One row, tile by tile");
  n.say("Ten keys, %d at a time. x: logits in log2 units. m: the largest x so far. d: the sum of 2^(x - m). o: the sum of "
        "2^(x - m) v, not divided yet.", keys_per_tile);
  const Accumulator acc = walk_tiles(n, row, keys_per_tile);
  const State state = acc.states[0];
  const Eigen::RowVectorXf o = acc.o.row(0) * state.inverse_d();
  n.step("Only now o is divided by d: o / d = (%s), lse_log2 = m + log2(d) = %.4f. One pass; no tile was read twice, and "
         "no more than %d scores existed at a time.", row_text(o, "%.4f").c_str(), state.lse_log2(), keys_per_tile);
  const auto c0 = c0::naive_head<double>(row.c.problem(), 0, 0, 0);
  n.check("o equals C0's", (o.cast<double>() - c0.o.row(0)).cwiseAbs().maxCoeff(), row.o_rounding);
  n.check("lse_log2 equals C0's", std::abs(state.lse_log2() - c0.lse_log2[0]), row.lse_rounding);
}

void any_reference(Narrator& n, const ToyRow& row) {
  n.section("Why o may be rescaled");
  n.step("m is a common factor: d = 2^-m * sum of 2^x, and o = 2^-m * sum of 2^x v. Going from m to m' multiplies both by "
         "2^(m - m'), and o / d never had m in it. So any reference r in the place of m gives the same row, while float "
         "can hold it:");
  const float m = row.x.maxCoeff();
  std::vector<std::vector<std::string>> rows;
  std::vector<Eigen::RowVectorXf> o;
  for (const auto& [name, r] : {std::pair{"the maximum", m}, {"the first logit", row.x[0]}, {"0", 0.0f}, {"-150", -150.0f},
                                {"+200", 200.0f}}) {
    const float reference = r;
    const Eigen::RowVectorXf p = row.x.unaryExpr([=](float x) { return State::weight(x, reference); });
    o.push_back(p * row.v / p.sum());
    rows.push_back({name, number_text(p.sum(), "%.4g"), row_text(o.back(), "%7.4f"),
                    number_text(r + std::log2(p.sum()), "%.4f")});
  }
  n.table({"reference", "d", "o / d", "lse_log2"}, rows);
  const double error = std::max((o[1] - o[0]).cwiseAbs().maxCoeff(), (o[2] - o[0]).cwiseAbs().maxCoeff());
  n.check("the first three give the same row", error, 2 * row.o_rounding);
  n.check_that("the last two have left float: no number remains", !o[3].allFinite() && !o[4].allFinite());
  n.say("The maximum is the one reference that can neither overflow nor lose everything: d is between 1 and the number of "
        "keys. It needn't be exact: a kernel may keep an old m while the new one is only a little larger.");
  State nothing;
  const MergeWeights<float> weights = merge(nothing, State{});
  n.step("A tile in which the row sees no key (masked, or no keys at all) has m = -inf. 2^(-inf - -inf) is %s, so one "
         "guard says that nothing weighs nothing: weight %g, and the state stays (m, d) = (%s, %g).",
         number_text(std::exp2(State::nothing - State::nothing), "%g").c_str(), weights.a,
         number_text(nothing.m, "%g").c_str(), nothing.d);
}

void loop_order(Narrator& n, const TrafficShape& s) {
  n.section("Which loop is outside");
  n.step("One head, %d tokens, head_dim %d, no mask, tiles of %d queries and %d keys. Q, K, V, S, P and the final O have 16 "
         "bits; an O that will be read again is float, as are m, d and lse. Bytes between memory and chip, counted by "
         "walking each loop nest:", s.tokens, s.head_dim, s.query_tile, s.key_tile);
  const std::vector<draw::Traffic> traffic{naive_traffic(s), fa1_traffic(s), fa2_traffic(s)};
  std::vector<std::vector<std::string>> rows;
  for (const draw::Traffic& t : traffic) {
    std::vector<std::string> cells{t.label};
    for (const double bytes : {t.q, t.k, t.v, t.o, t.statistics, t.q + t.k + t.v + t.o + t.statistics}) {
      cells.push_back(text("%.1f", bytes / 1048576));
    }
    rows.push_back(cells);
  }
  n.table({"MiB", "Q", "K", "V", "O", "S, P, m, d, lse", "all"}, rows);
  const double o_mib = traffic[1].o / 1048576, final_mib = 2.0 * s.tokens * s.head_dim / 1048576;
  n.say("FA1's O: %d tiles of keys visit it. All but the last write it as float, all but the first read it, the last "
        "writes 16 bits: %d * %.0f + %d * %.0f + %.0f = %.0f MiB. Kept in 16 bits in between it would be %.0f.",
        div_up(s.tokens, s.key_tile), div_up(s.tokens, s.key_tile) - 1, 2 * final_mib, div_up(s.tokens, s.key_tile) - 1,
        2 * final_mib, final_mib, o_mib, (2 * div_up(s.tokens, s.key_tile) - 1) * final_mib);
  n.figure("traffic", draw::traffic_bars(std::vector<draw::Traffic>(traffic.begin() + 1, traffic.end()),
                                         {"Bytes of one head", text("%d tokens, head_dim %d", s.tokens, s.head_dim)}),
           "FA1 carries O and its statistics in and out for every tile of keys; FA2 only reads K and V again.");
  const double elements = 1.0 * s.tokens * s.head_dim, visits = div_up(s.tokens, s.key_tile);
  n.say("Keys outside (FA1): K and V are read once, but every tile of keys visits all the queries, so O, m and d travel in "
        "and out each time. Queries outside (FA2, and C1): a tile's m, d and o stay on the chip from the first key to the "
        "last, O goes to memory once, and it is divided once: %.1f million divisions instead of %.1f. The tiles of queries "
        "are independent of each other, so they can run at the same time, and share what they read of K and V in the L2 "
        "cache.", elements / 1e6, elements * visits / 1e6);
}

void memory_or_arithmetic(Narrator& n, const TrafficShape& s) {
  n.section("Memory or arithmetic");
  const Gpu gpu;
  tell_memories(n, gpu);
  tell_io_complexity(n, s);
  tell_intensity(n, gpu);
}

void large_logits(Narrator& n) {
  n.section("Logits near 100000");
  const ladder::Case c = toy_case({.name = "large", .seed = 1, .qo_lens = {2}, .kv_lens = {300},
                                   .params = {.head_dim_qk = 4, .head_dim_vo = 4, .sm_scale = 0.5f},
                                   .values = ladder::Values::large});
  const float lse = static_cast<float>(c0::naive_head<double>(c.problem(), 0, 0, 0).lse_log2[0]);
  n.step("lse_log2 of a row is %.0f. 2^%.0f is far beyond float, but 2^(x - m) is in (0, 1]. What is lost is not range but "
         "digits: float's neighbours of %.0f are %g apart, so a weight is known to about %.1f %% and no better.", lse, lse,
         lse, std::nextafter(lse, INFINITY) - lse, 100 * (std::exp2((std::nextafter(lse, INFINITY) - lse) / 2) - 1));
  prove_rung(n, "C1", c, "at such logits");
  prove_rung(n, "C1", toy_case({.name = "tiles", .seed = 2, .qo_lens = {70}, .kv_lens = {300}}),
             text("with 300 keys in tiles of %d", c1::key_tile));
}

}  // namespace

int main(int argc, char** argv) {
  std::int32_t keys_per_tile = 4;
  std::uint64_t seed = 36;
  TrafficShape shape;
  const Chapter chapter{.number = 2, .title = "Online softmax",
                        .idea = "One pass over the keys is enough: m, d and o hold all that a row has seen."};
  return walk(argc, argv, chapter, [&](Narrator& n) {
    const ToyRow row(seed);
    one_row(n, row, keys_per_tile);
    any_reference(n, row);
    loop_order(n, shape);
    memory_or_arithmetic(n, shape);
    large_logits(n);
    n.question("Run this with --head-dim 128. FA1 then moves more bytes than C0. Why does head_dim matter for O and not "
               "for S, and what would a larger --key-tile change?");
  }, {
    {"--tile", "keys per tile of the row", &keys_per_tile, 1, 10},
    {"--seed", "of the row's q, K and V", &seed},
    {"--tokens", "tokens, for the bytes", &shape.tokens, 1, 131072},
    {"--head-dim", "head_dim, for the bytes", &shape.head_dim, 1, 1024},
    {"--query-tile", "queries per tile, for the bytes", &shape.query_tile, 16, 1024},
    {"--key-tile", "keys per tile, for the bytes", &shape.key_tile, 16, 1024},
  });
}
