// Chapter 03: the keys are cut, every piece is attended to on its own, and the pieces are merged by their lse_log2. Any cut,
// any order, any tree; the wrong ways and what they give; which base an lse has; sinks and empty pieces; what a split buys.
#include <algorithm>
#include <cmath>

#include "draw/bar_chart.hpp"
#include "draw/merge_tree.hpp"
#include "draw/text.hpp"
#include "reference/c0_naive.hpp"
#include "reference/c2_split_merge.hpp"
#include "walkthroughs/toy.hpp"
#include "walkthroughs/toy_row.hpp"

using namespace flashladder;
using namespace flashladder::reference;
using namespace flashladder::walkthroughs;
using c2::Partial;
using State = SoftmaxState<float>;

namespace {

// Partials merged one after the other.
Partial merged(std::initializer_list<Partial> partials) {
  Accumulator acc;
  acc.reset(1, 4);
  for (const Partial& partial : partials) c2::absorb_partial(partial, acc);
  return c2::finish(acc);
}

// The weight of a in the merge of two finished partials with these lse_log2.
float share(float a_lse_log2, float b_lse_log2) {
  State state = State::from_lse_log2(a_lse_log2);
  const float weight = merge(state, State::from_lse_log2(b_lse_log2)).a;
  return weight * state.inverse_d();
}

double distance(const Partial& a, const Partial& b) { return (a.o - b.o).cwiseAbs().maxCoeff(); }

std::vector<std::string> partial_row(const std::string& name, const Partial& p) {
  return {name, row_text(p.o.row(0), "%7.4f"), number_text(p.lse_log2[0], "%.4f")};
}

void three_pieces(Narrator& n, const ToyRow& row) {
  n.section("Three pieces and their merge");
  const Partial a = row.attend({0, 4}), b = row.attend({4, 8}), c = row.attend({8, 10});
  n.step("The row of chapter 02, its ten keys cut in three. C1 attends to each piece as if it were all there is, and "
         "leaves a partial: o, divided by its own d, and lse_log2. A GPU may do the three at the same time.");
  n.table({"keys", "o of the piece", "lse_log2"},
          {partial_row("[0, 4)", a), partial_row("[4, 8)", b), partial_row("[8, 10)", c)});
  const Partial all = merged({a, b, c});
  const float lse = all.lse_log2[0];
  n.step("2^lse_log2 is the sum of 2^x over the piece: how much of the whole softmax lies in it. The sums add, so the "
         "whole has lse_log2 = log2(2^%.4f + 2^%.4f + 2^%.4f) = %.4f.", a.lse_log2[0], b.lse_log2[0], c.lse_log2[0], lse);
  const auto weight = [&](const Partial& p) { return std::exp2(p.lse_log2[0] - lse); };
  n.step("Each piece weighs 2^(its lse_log2 - the whole's) = %.4f, %.4f, %.4f; together %.4f. The weighted sum of the "
         "three o is the row's o = (%s). Merging needs no score, no m, no d: o and one number a row.", weight(a), weight(b),
         weight(c), weight(a) + weight(b) + weight(c), row_text(all.o.row(0), "%.4f").c_str());
  const auto c0 = c0::naive_head<double>(row.c.problem(), 0, 0, 0);
  n.check("the merged o equals C0's", (all.o.cast<double>() - c0.o).cwiseAbs().maxCoeff(), row.o_rounding);
  n.check("the merged lse_log2 equals C0's", std::abs(lse - c0.lse_log2[0]), row.lse_rounding);

  const Partial ab = merged({a, b});
  const auto in_ab = [&](const Partial& p) { return std::exp2(p.lse_log2[0] - ab.lse_log2[0]); };
  const std::vector<draw::MergeNode> tree{{"keys [0, 4)", a.lse_log2[0], in_ab(a)}, {"keys [4, 8)", b.lse_log2[0], in_ab(b)},
                                          {"keys [0, 8)", ab.lse_log2[0], weight(ab), {0, 1}},
                                          {"keys [8, 10)", c.lse_log2[0], weight(c)}, {"all keys", lse, 1, {2, 3}}};
  n.figure("merge_tree", draw::merge_tree(tree, {"A merge of three pieces", "each arrow: the weight of its o"}),
           "The first two pieces are merged, then the third: one of the many trees that give the same row.");
}

void any_tree(Narrator& n, const ToyRow& row) {
  n.section("Any cut, any order, any tree");
  const Partial whole = row.attend({0, 10});
  const Partial a = row.attend({0, 4}), b = row.attend({4, 8}), c = row.attend({8, 10});
  Partial one_by_one = row.attend({10, 10});
  for (std::int32_t j = 9; j >= 0; --j) one_by_one = merged({one_by_one, row.attend({j, j + 1})});
  const std::vector<std::pair<std::string, Partial>> ways{
      {"not cut (C1)", whole}, {"(a b) c", merged({merged({a, b}), c})}, {"a (b c)", merged({a, merged({b, c})})},
      {"c (a b)", merged({c, merged({a, b})})},
      {"cut at 1 and 9", merged({row.attend({0, 1}), row.attend({1, 9}), row.attend({9, 10})})},
      {"ten keys, last first", one_by_one}};
  n.step("The merge is associative and commutative, and \"nothing seen\" is its neutral element. So the cut, the order and "
         "the tree are free; who finishes first doesn't matter:");
  std::vector<std::vector<std::string>> rows;
  double worst = 0;
  for (const auto& [name, p] : ways) {
    rows.push_back(partial_row(name, p));
    worst = std::max(worst, distance(p, whole));
  }
  n.table({"", "o", "lse_log2"}, rows);
  n.check("all of them agree", worst, 2 * row.o_rounding);
  n.say("Up to rounding: float addition is not associative, so another order may change the last bit. Whoever wants the "
        "same bits each time merges in a fixed order, as C4 does, and fixes where the cuts are.");
}

void wrong_ways(Narrator& n, const ToyRow& row) {
  n.section("The wrong ways, and what they give");
  const Partial a = row.attend({0, 4}), b = row.attend({4, 8}), c = row.attend({8, 10});
  const Partial right = merged({a, b, c});
  const auto natural = [](const Partial& p) { return Partial{p.o, {lse_natural_from_log2(p.lse_log2[0])}}; };
  const Partial mean{(a.o + b.o + c.o) / 3, right.lse_log2}, mixed = merged({natural(a), natural(b), natural(c)});
  const Partial added{right.o, {a.lse_log2[0] + b.lse_log2[0] + c.lse_log2[0]}};
  n.step("Each of these is finite and looks like an answer:");
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, p] : {std::pair{"right", right}, {"the mean of the three o", mean}, {"lse added", added},
                                {"natural lse, base-2 merge", mixed}}) {
    rows.push_back(partial_row(name, p));
    rows.back().push_back(number_text(distance(p, right), "%.4f"));
  }
  n.table({"", "o", "lse_log2", "o is off by"}, rows);
  n.check_that("both wrong o are off by more than rounding",
               std::min(distance(mean, right), distance(mixed, right)) > 2 * row.o_rounding);
  const float a_log2 = lse_log2_from_natural(3.0f), b_log2 = lse_log2_from_natural(5.0f);
  n.step("Two pieces whose natural lse are 3 and 5 (base 2: %.3f and %.3f). The first weighs 1 / (1 + e^2) = %.3f. Natural "
         "numbers given to a base-2 merge: 1 / (1 + 2^2) = %.3f. Base-2 numbers given to a natural merge: %.3f. Kernels "
         "differ (FlashInfer: base 2; FlashAttention: natural), so the unit belongs in the name and conversion in one "
         "function.", a_log2, b_log2, share(a_log2, b_log2), share(3, 5),
         share(lse_log2_from_natural(a_log2), lse_log2_from_natural(b_log2)));
}

// Keys that are all alike: their lse is known without computing anything, and shows its base.
void which_base(Narrator& n) {
  n.section("Which base is this lse?");
  n.step("Ask with q = 0. Then every logit is 0, so the sum of the exponentials is the number of keys, and lse is its "
         "logarithm in the base that the kernel uses:");
  std::vector<std::vector<std::string>> rows;
  double worst = 0;
  for (const std::int32_t keys : {1, 2, 1024, 65536}) {
    State state;
    for (std::int32_t j = 0; j < keys; ++j) merge(state, State{0, 1});
    rows.push_back({text("%d", keys), number_text(state.lse_log2(), "%.4f"),
                    number_text(lse_natural_from_log2(state.lse_log2()), "%.4f")});
    worst = std::max(worst, std::abs(double{state.lse_log2()} - std::log2(keys)));
  }
  n.table({"keys, q = 0", "lse_log2", "natural lse"}, rows);
  n.check("lse_log2 of equal keys is log2 of their number", worst, 1e-6);
}

void sinks_and_nothing(Narrator& n, const ToyRow& row) {
  n.section("An empty piece, and a sink");
  const Partial a = row.attend({0, 4}), empty = row.attend({4, 4});
  const Partial both = merged({a, empty}), nothing = merged({empty, empty});
  n.step("A piece without keys: o = (%s), lse_log2 = %s. It weighs 2^-inf = 0. Merged with [0, 4), lse_log2 stays %.4f; "
         "merged with another empty one, o = 0 and -inf again, not nan.", row_text(empty.o.row(0), "%g").c_str(),
         number_text(empty.lse_log2[0], "%g").c_str(), both.lse_log2[0]);
  n.check_that("empty and empty is empty: o = 0, lse_log2 = -inf",
               nothing.o.isZero(0) && nothing.lse_log2[0] == State::nothing && both.lse_log2[0] == a.lse_log2[0]);

  ladder::Case c = row.c;
  c.spec.params.sinks = true;
  c.sinks = {1.5f};
  const auto c0 = c0::naive_head<double>(c.problem(), 0, 0, 0);
  const Partial all = merged({a, row.attend({4, 8}), row.attend({8, 10})});
  State once = State::from_lse_log2(all.lse_log2[0]), thrice = once;
  const float right = merge(once, State::from_sink(1.5f)).a * once.inverse_d();
  for (int piece = 0; piece < 3; ++piece) merge(thrice, State::from_sink(1.5f));
  n.step("A sink is one more logit, here 1.5, without a value: it only makes d larger. As a state it is (1.5 log2(e), 1) "
         "with o = 0. Merged once, by the row's final writer: lse_log2 = %.4f, and o shrinks to %.4f of itself. Merged by "
         "each of the three pieces it would count three times: %.4f and %.4f.", once.lse_log2(), right, thrice.lse_log2(),
         std::exp2(all.lse_log2[0] - thrice.lse_log2()));
  n.check("o with its sink equals C0's", (all.o.cast<double>() * right - c0.o).cwiseAbs().maxCoeff(), row.o_rounding);
}

struct Machine {
  std::int32_t kv_len = 65536, kv_heads = 8, group_size = 4, head_dim = 128, sms = 132;
};

void parallelism(Narrator& n, const Machine& m) {
  n.section("What a split buys");
  n.step("Decode: one query, %d KV heads in groups of %d query heads, head_dim %d, %d keys in 16 bit, a GPU with %d SMs. A "
         "piece is one chunk of the keys of one KV head, and an SM works on one piece at a time. Within a piece C1's steps "
         "follow each other; different pieces can run at the same time.", m.kv_heads, m.group_size, m.head_dim, m.kv_len,
         m.sms);
  std::vector<std::vector<std::string>> rows;
  std::vector<draw::Bar> bars;
  const double kv_bytes = 2.0 * 2 * m.kv_heads * m.head_dim * m.kv_len;
  for (const std::int32_t chunks : {1, 4, 16, 17, 64}) {
    const std::int32_t chunk = div_up(m.kv_len, chunks), pieces = m.kv_heads * chunks, waves = div_up(pieces, m.sms);
    const double in_a_row = 1.0 * waves * chunk, busy = 1.0 * m.kv_heads * m.kv_len / (in_a_row * m.sms);
    const double partial_bytes = chunks > 1 ? 2.0 * 4 * pieces * m.group_size * (m.head_dim + 1) : 0;  // float, out and in
    rows.push_back({text("%d", chunks), text("%d", pieces), text("%d", waves), text("%.0f", in_a_row),
                    text("%.0f %%", 100 * busy), text("%.2f %%", 100 * partial_bytes / kv_bytes)});
    bars.push_back({draw::counted(chunks, "chunk"), {in_a_row}, text("%.0f %% busy", 100 * busy)});
  }
  n.table({"chunks", "pieces", "waves", "keys in a row", "SMs busy", "partials / K and V"}, rows);
  n.say("Keys in a row: how many keys the busiest SM reads, one after the other. All others wait for it, so this is the "
        "time. Without a split at most %d of %d SMs work. One piece too many costs a whole wave more: chapter 05 is about "
        "choosing. The partials (o and lse_log2 in float, written once, read once) hardly count beside K and V.", m.kv_heads,
        m.sms);
  const std::string note = text("%d keys, %d KV heads, %d SMs", m.kv_len, m.kv_heads, m.sms);
  n.figure("split", draw::bar_chart(bars, {.caption = {"Keys that one SM reads in a row", note}, .unit = "keys"}),
           "The longest chain of keys, for several splits of the same decode step.");
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t seed = 36;
  Machine machine;
  const Chapter chapter{.number = 3, .title = "Split and merge",
                        .idea = "Attend to pieces of the keys apart; o and lse_log2 of each are enough to merge them."};
  return walk(argc, argv, chapter, [&](Narrator& n) {
    const ToyRow row(seed);
    three_pieces(n, row);
    any_tree(n, row);
    wrong_ways(n, row);
    which_base(n);
    sinks_and_nothing(n, row);
    parallelism(n, machine);
    const ladder::Case c = toy_case({.name = "pieces", .seed = 4, .qo_lens = {3, 70}, .kv_lens = {700, 1000},
                                     .params = {.num_qo_heads = 6, .num_kv_heads = 2, .mask = MaskMode::causal}});
    prove_rung(n, "C2", c, "with 1000 keys in chunks of 256");
    n.question("Two GPUs hold half of the keys each. What do they have to send each other for one query head of one token, "
               "and does it grow with the context?");
  }, {
    {"--seed", "of the row's q, K and V", &seed},
    {"--kv-len", "keys, for the split", &machine.kv_len, 64, 16777216},
    {"--kv-heads", "KV heads, for the split", &machine.kv_heads, 1, 128},
    {"--sms", "SMs of the GPU, for the split", &machine.sms, 1, 1024},
  });
}
