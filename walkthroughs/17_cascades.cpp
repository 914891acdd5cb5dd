// Chapter 17: cascades. Three requests that share a prefix, as one flat batch and as two levels; a row of each level and
// their merge; what may not be done level by level; the bytes with and without a cascade, from the planner's plans; where it
// does not pay.
#include "draw/bar_chart.hpp"
#include "planner/planner.hpp"
#include "walkthroughs/cascade_batch.hpp"
#include "walkthroughs/toy.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;

namespace {

std::vector<std::string> state_row(const std::string& name, const States& s, std::int64_t row) {
  return {name, row_text(s.row(row), "%7.4f"), number_text(s.lse_log2[static_cast<std::size_t>(row)], "%.4f")};
}

void two_levels(Narrator& n, const CascadeBatch& b) {
  n.section("Two levels");
  n.step("Four requests, one query each, pages of two tokens. Requests 0, 1 and 2 begin with the same eight keys, in the "
         "same four pages; request 3 has keys of its own alone. A flat batch names the shared pages three times:");
  const auto lists = [](const char* name, const LevelOfPages& level) {
    const auto ints = [](const std::vector<std::int32_t>& v) { return row_text(v, "%.0f"); };
    return std::vector<std::string>{name, ints(level.qo_indptr), ints(level.paged_kv_indptr), ints(level.paged_kv_indices),
                                    ints(level.paged_kv_last_page_len)};
  };
  const std::vector<std::string> header{"", "qo_indptr", "paged_kv_indptr", "page ids", "last_page_len"};
  n.table(header, {lists("flat", b.flat)});
  n.step("A cascade has a level for the prefix and one for the rest. On level 0 the rows 0, 1 and 2 are one request of "
         "three queries, and row 3 is one without keys:");
  n.table(header, {lists("level 0", b.prefix), lists("level 1", b.own)});
  n.say("Level 0 has %zu page ids in the place of %d, and all queries of a group go through its keys together, as the "
        "queries of a prompt do.", b.prefix.paged_kv_indices.size(), CascadeBatch::sharing * CascadeBatch::shared_pages);
}

void monoid_again(Narrator& n, const CascadeBatch& b) {
  n.section("The monoid again");
  const States prefix = b.attend(b.prefix, MaskMode::none), own = b.attend(b.own, MaskMode::causal);
  const States both = merged(prefix, own), flat = b.attend(b.flat, MaskMode::causal), cascade = b.cascade();
  n.step("Each level leaves a state of every row, o in float and lse_log2. Row 0, over its 8 shared keys and over its own "
         "3; their merge, by chapter 03's two weights; and one attention over all 11:");
  n.table({"row 0", "o", "lse_log2"}, {state_row("level 0", prefix, 0), state_row("level 1", own, 0),
                                       state_row("merged", both, 0), state_row("flat", flat, 0)});
  n.say("The prefix weighs %.4f here and the row's own keys %.4f.", std::exp2(prefix.lse_log2[0] - both.lse_log2[0]),
        std::exp2(own.lse_log2[0] - both.lse_log2[0]));
  n.step("Row 3 has no prefix. Level 0 gives it the neutral element, and merging changes nothing:");
  n.table({"row 3", "o", "lse_log2"}, {state_row("level 0", prefix, 3), state_row("level 1", own, 3),
                                       state_row("merged", both, 3)});
  n.check_that("row 3 is what level 1 gave, bit for bit", std::ranges::equal(both.row(3), own.row(3)));
  const std::size_t states = 4 * (2 * (4 + 1) + 1) * sizeof(float);
  n.step("MultiLevelCascadeAttention does just that. Its workspace: %zu bytes, for 4 rows of 2 levels' o and lse_log2 and "
         "a last lse_log2, in whole lines of 128 bytes.", b.cascade_bytes());
  n.check_that("that is 2 (4 + 1) + 1 floats a row", b.cascade_bytes() == (states + 127) / 128 * 128);
  n.check("the cascade equals one flat attention", distance(cascade, flat), 4e-6);
  n.check("so does the merge by hand", distance(both, flat), 4e-6);
}

void not_by_level(Narrator& n, CascadeBatch b) {
  n.section("What may not be done level by level");
  b.c.spec.params.sinks = true;
  b.c.sinks = {1.5f};
  CascadeBatch without = b;
  without.c.sinks.clear();
  const States right = b.attend(b.flat, MaskMode::causal), own = b.attend(b.own, MaskMode::causal);
  const States prefix = without.attend(b.prefix, MaskMode::none);
  const States causal_prefix = without.attend(b.prefix, MaskMode::causal), with_sink = b.attend(b.prefix, MaskMode::none);
  States mean = prefix;
  for (std::size_t i = 0; i < mean.o.size(); ++i) mean.o[i] = (prefix.o[i] + own.o[i]) / 2;
  n.step("The same batch with a sink of 1.5. It belongs to the row, not to a level: the last level has it, and no other. "
         "Row 0, right and in three wrong ways:");
  const States twice = merged(with_sink, own), cut = merged(causal_prefix, own);
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, states] : {std::pair{"flat", right}, {"cascade", b.cascade()}, {"a sink on each level", twice},
                                     {"causal on the prefix too", cut}, {"the mean of the levels", mean}}) {
    rows.push_back(state_row(name, states, 0));
    rows.back().push_back(number_text(distance(states, right), "%.4f"));
  }
  n.table({"", "o of row 0", "lse_log2", "o is off by"}, rows);
  n.check("the cascade with a sink equals one flat attention", distance(b.cascade(), right), 4e-6);
  n.check_that("each wrong way is off by more than rounding",
               std::min({distance(twice, right), distance(cut, right), distance(mean, right)}) > 1e-3);
  n.say("Causal on the prefix: there rows 0, 1 and 2 are queries 0, 1 and 2 of one request, and query 0 does not see its "
        "last two keys. But the prefix lies before all three of them.");
}

// A batch of one query each, 32/8 heads of 128 features, 16 bits: what has to move. Plans as for 132 SMs, with two CTAs each
// for D6, which decodes, and one for P11, which takes the prefix's level.
struct CascadeBytes {
  static constexpr std::int32_t heads = 32, kv_heads = 8, dim = 128;
  std::int32_t sharing, prefix, suffix;

  static double of_keys(double keys) { return keys * kv_heads * dim * 2 * 2; }
  double flat_keys() const { return of_keys(1.0 * sharing * (prefix + suffix)); }
  double prefix_keys() const { return of_keys(prefix); }
  double own_keys() const { return of_keys(1.0 * sharing * suffix); }
  // Two states of every row, float, written and read.
  double states() const { return 2.0 * 2 * sharing * heads * (dim + 1) * 4; }
  static Plan plan(std::vector<std::int32_t> qo_lens, const std::vector<std::int32_t>& kv_lens, std::int32_t ctas_per_sm) {
    return planner::make_plan({.qo_lens = qo_lens, .kv_lens = kv_lens, .num_qo_heads = heads, .num_kv_heads = kv_heads,
                               .head_dim_qk = dim, .head_dim_vo = dim, .machine = {132, ctas_per_sm}});
  }
  Plan prefix_plan() const { return plan({sharing}, {prefix}, 1); }
  Plan decode_plan(std::int32_t keys) const {
    return plan({}, std::vector<std::int32_t>(static_cast<std::size_t>(sharing), keys), 2);
  }
  // What the pieces of cut tiles leave for each other: written and read.
  static double partials(const Plan& plan) { return 2.0 * static_cast<double>(plan.workspace_bytes()); }
  double flat() const { return flat_keys() + partials(decode_plan(prefix + suffix)); }
  double level_0() const { return prefix_keys() + partials(prefix_plan()); }
  double level_1() const { return own_keys() + partials(decode_plan(suffix)); }
  double cascade() const { return level_0() + level_1() + states(); }
};

std::string mb(double bytes) { return text("%.1f", bytes * 1e-6); }

void bytes(Narrator& n, const CascadeBytes& most) {
  n.section("Why it pays: bytes");
  n.step("%d requests of one query behind one prefix of %d tokens, each with %d tokens of its own; 32/8 heads of 128 "
         "features, 16 bits: %.0f bytes a token. MB that must move, once each; the partials of cut tiles by the planner's "
         "own plans for 132 SMs, 64 x 4 = 256 packed rows of the prefix in two tiles of 128:", most.sharing, most.prefix,
         most.suffix, CascadeBytes::of_keys(1));
  n.table({"MB", "K and V", "partials of cut tiles", "levels' states", "all"},
          {{"flat", mb(most.flat_keys()), mb(most.flat() - most.flat_keys()), "-", mb(most.flat())},
           {"level 0", mb(most.prefix_keys()), mb(most.level_0() - most.prefix_keys()), "", mb(most.level_0())},
           {"level 1", mb(most.own_keys()), mb(most.level_1() - most.own_keys()), "", mb(most.level_1())},
           {"cascade", mb(most.prefix_keys() + most.own_keys()),
            mb(most.level_0() + most.level_1() - most.prefix_keys() - most.own_keys()), mb(most.states()),
            mb(most.cascade())}});
  n.say("%.1f times less. What level 0 moves is not the prefix alone: its 2 tiles for each of 8 KV heads are cut in %td "
        "pieces, so that all CTAs have work, and 128 packed rows of partials of each piece, written and read, weigh half as "
        "much as its keys.",
        most.flat() / most.cascade(), most.prefix_plan().num_work());
  n.step("The same prefix shared by fewer:");
  std::vector<std::vector<std::string>> rows;
  std::vector<draw::Bar> bars;
  for (const std::int32_t sharing : {1, 2, 4, 16, 64}) {
    const CascadeBytes b{sharing, most.prefix, most.suffix};
    rows.push_back({text("%d", sharing), mb(b.flat()), mb(b.cascade()), text("%.2f", b.flat() / b.cascade())});
    if (sharing == 1) continue;
    const double joining = b.cascade() - b.prefix_keys() - b.own_keys();
    const auto bar = [&](const char* name, double prefix, double rest) {
      bars.push_back({text("%d, %s", sharing, name), {prefix * 1e-6, b.own_keys() * 1e-6, rest * 1e-6}});
    };
    bar("flat", CascadeBytes::of_keys(1.0 * sharing * b.prefix), b.flat() - b.flat_keys());
    bar("cascade", b.prefix_keys(), joining);
  }
  n.table({"shared by", "flat, MB", "cascade, MB", "times less"}, rows);
  const std::string who = text("requests that share a prefix of %d", most.prefix);
  n.figure("bytes", draw::bar_chart(bars, {.caption = {"Bytes that must move", who}, .unit = "MB",
                                           .part_names = {"prefix", "own keys", "partials and states"}}),
           "A flat batch reads the prefix for every request, a cascade once.");
  const CascadeBytes chapters{64, 8192, 256};
  n.check_that("8192 tokens shared by 64, and 256 each: at least 15 times less", chapters.flat() > 15 * chapters.cascade());
}

void not_paying(Narrator& n) {
  n.section("Where it does not pay");
  n.step("The states of two levels are written and read: %.0f bytes a row, as many as K and V of %.1f tokens. A prefix "
         "shorter than that moves more with a cascade than without, and one that nobody shares saves next to nothing:",
         CascadeBytes{1, 0, 0}.states(), CascadeBytes{1, 0, 0}.states() / CascadeBytes::of_keys(1));
  std::vector<std::vector<std::string>> rows;
  for (const auto& b : {CascadeBytes{64, 8192, 256}, {64, 512, 2048}, {64, 64, 2048}, {64, 16, 2048}, {4, 8192, 256},
                        {1, 8192, 256}}) {
    rows.push_back({text("%d", b.sharing), text("%d", b.prefix), text("%d", b.suffix), mb(b.flat()), mb(b.cascade()),
                    text("%.2f", b.flat() / b.cascade())});
  }
  n.table({"shared by", "prefix", "suffix", "flat, MB", "cascade, MB", "times less"}, rows);
  n.say("And bytes are not all. A cascade is four kernels in the place of one: the prefix's, the one that joins its cut "
        "tiles, the suffixes', the merge. Short batches lose more by that than they save. And where a page that one request "
        "has read is still in the L2 when the next one wants it, a flat batch does not wait for memory again either.");
  const double rows_of_a_key = 64 * 4;
  n.step("Nor do more requests always gain more. A key of the prefix is used by 64 x 4 = %.0f packed rows, each with 4 x "
         "128 FLOP for its %d bytes of K and V: %.0f FLOP a byte. A GPU of 989 TFLOP/s and 4.8 TB/s can do %.0f for each "
         "byte that it reads. So from about %.0f requests on the prefix's level is a matter of tensor cores, as a "
         "prefill is, and its time grows with the rows.", rows_of_a_key, 2 * 2 * 128, rows_of_a_key * 4 * 128 / (2 * 2 * 128),
         989 / 4.8, 989 / 4.8 / 4);
  n.check_that("with a prefix of 16 the cascade moves more",
               CascadeBytes{64, 16, 2048}.cascade() > CascadeBytes{64, 16, 2048}.flat());
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t seed = 17;
  CascadeBytes most{64, 8192, 256};
  const Chapter chapter{.number = 17, .title = "Cascades",
                        .idea = "A prefix that many requests share is read once for all of them, and merged by lse_log2."};
  return walk(argc, argv, chapter, [&](Narrator& n) {
    const CascadeBatch batch(seed);
    two_levels(n, batch);
    monoid_again(n, batch);
    not_by_level(n, batch);
    bytes(n, most);
    not_paying(n);
    n.question("A window of 100 keys and a prefix of 8192: which keys of the prefix does the first token behind it see, and "
               "what would a level have to know?");
  }, {
    {"--seed", "of q, K and V", &seed},
    {"--prefix", "tokens that are shared, for the bytes", &most.prefix, 1, 1048576},
    {"--suffix", "tokens of each request's own, for the bytes", &most.suffix, 1, 1048576},
  });
}
