// Chapter 13's section about the stale reference: the same row with a running maximum, when a tile is done again, what a
// wrong start loses, and what it would cost if neighbours decided.
#pragma once

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "ladder/cases/drawn/random.hpp"
#include "walkthroughs/narrate.hpp"
#include "walkthroughs/stale_row.hpp"

namespace flashladder::walkthroughs {

inline constexpr int tile_keys = 128, row_values = 8;
using RowLogits = std::vector<std::vector<float>>;  // [tiles][keys], in log2 units

// A tile for each centre: logits around it. -inf: a masked tile.
inline RowLogits drawn_row(std::uint64_t seed, const std::vector<double>& centres, double spread) {
  ladder::Random random(seed);
  RowLogits tiles;
  for (const double centre : centres) {
    tiles.emplace_back();
    for (int j = 0; j < tile_keys; ++j) tiles.back().push_back(static_cast<float>(centre + spread * random.normal()));
  }
  return tiles;
}
inline auto drawn_values(int tile) {
  return [tile](int key, int f) {
    ladder::Random random(99, static_cast<std::uint64_t>((tile * tile_keys + key) * row_values + f));
    return static_cast<float>(Half(static_cast<float>(random.normal())));
  };
}

inline StaleRow stale(const RowLogits& tiles, const RowRule& rule = {}) {
  StaleRow row{.rule = rule, .reference = rule.no_reference};
  for (std::size_t t = 0; t < tiles.size(); ++t) row.absorb(tiles[t], row_values, drawn_values(static_cast<int>(t)));
  return row;
}
// In double, P not rounded.
inline std::vector<double> exact(const RowLogits& tiles) {
  double most = -std::numeric_limits<double>::infinity(), d = 0;
  std::vector<double> o(row_values);
  for (const auto& tile : tiles) most = std::max(most, static_cast<double>(largest_of(tile)));
  for (std::size_t t = 0; t < tiles.size(); ++t) {
    const auto value = drawn_values(static_cast<int>(t));
    for (int j = 0; j < tile_keys; ++j) {
      const double p = std::exp2(tiles[t][static_cast<std::size_t>(j)] - most);
      d += p;
      for (int f = 0; f < row_values; ++f) o[static_cast<std::size_t>(f)] += p * value(j, f);
    }
  }
  for (double& x : o) x /= d;
  return o;
}
template <class Row>
double largest_error(const Row& row, const std::vector<double>& o) {
  double most = 0;
  for (int f = 0; f < row_values; ++f) most = std::max(most, std::abs(row.result(f) - o[static_cast<std::size_t>(f)]));
  return most;
}

inline void equal_results(Narrator& n) {
  const RowLogits tiles = drawn_row(5, {0, 3, 1, 20, 5}, 2);
  StaleRow row;
  RunningRow running;
  std::vector<std::vector<std::string>> lines;
  for (std::size_t t = 0; t < tiles.size(); ++t) {
    const bool again = row.absorb(tiles[t], row_values, drawn_values(static_cast<int>(t)));
    running.absorb(tiles[t], row_values, drawn_values(static_cast<int>(t)));
    lines.push_back({text("%zu", t), text("%.1f", largest_of(tiles[t])), text("%.1f", running.state.m),
                     text("%.1f", row.reference), text("%.3g", row.largest_p), again ? "yes" : ""});
  }
  n.step("A row of five tiles of %d keys, logits in log2 units. The running maximum of chapter 02 grows twice. The stale "
         "reference stays the maximum of the first tile until that does harm. p = 2^(x - reference):", tile_keys);
  n.table({"tile", "largest x", "running maximum", "reference", "largest p", "done again"}, lines);
  const std::vector<double> o = exact(tiles);
  n.check("o with the stale reference, P in f16", largest_error(row, o), 0x1p-10);
  n.check("o with a running maximum, P in f16", largest_error(running, o), 0x1p-10);
  const double lse = std::abs(row.state().lse_log2() - running.state.lse_log2());
  n.check("the two lse_log2 are the same", lse, 1e-5);
  n.say("What a thread saves in a tile that is not done again (head_dim 128, 128 keys, two rows): %d maxima and %d "
        "shuffles for the running maximum, and %d multiplications that rescale O. It pays two comparisons and a vote of "
        "the warp.",
        tile_keys / 2 + 4, 4, 128 / 2);
}

inline void when_done_again(Narrator& n) {
  std::vector<std::vector<std::string>> lines;
  bool halves = true;
  for (const int keys : {1, 2, 8, 32}) {  // of one thread; the others of the row see nothing
    int most = 0;
    for (int above = 0; above < 40; ++above) {
      std::vector<float> first(tile_keys, 0.0f), later(tile_keys, SoftmaxState<float>::nothing);
      for (int k = 0; k < keys; ++k) later[static_cast<std::size_t>(k / 2 * 8 + k % 2)] = static_cast<float>(above);
      StaleRow row;
      row.absorb(first, 1, [](int, int) { return 1.0f; });
      if (!row.absorb(later, 1, [](int, int) { return 1.0f; })) most = above;
    }
    halves = halves && std::exp2(static_cast<float>(most)) <= 65504.0f;
    lines.push_back({text("%d", keys), text("%d", most), text("%.0f", std::exp2(most)),
                     text("%.0f", keys * std::exp2(most))});
  }
  n.step("A tile is done again when the p that one thread has of a row sum up to more than 2^14. A thread has 32 of the "
         "tile's 128 keys. If so many of them lie equally far above the reference, this is how far they may:");
  n.table({"keys", "above it, at most", "each p", "sum"}, lines);
  n.check_that("no p that is kept is more than f16 holds, 65504", halves);
}

inline void masked_first(Narrator& n) {
  n.step("A row whose first tile is masked has no maximum to begin with. Then the reference is -1e30: the first key that "
         "it sees gives p = infinity, more than 2^14, and the tile is done again with a maximum. Why not 0, which looks "
         "harmless? Small logits would stay as they are, and p is rounded to f16, whose smallest number is 2^-24. Two "
         "tiles of keys behind a masked one, logits around x; the largest error of o (values of about 1):");
  std::vector<std::vector<std::string>> lines;
  double worst = 0, at_25 = 0;
  for (const double centre : {0.0, -8.0, -14.0, -18.0, -22.0, -25.0, -30.0}) {
    RowLogits tiles = drawn_row(7, {0, centre, centre}, 0.5);
    tiles[0].assign(tile_keys, SoftmaxState<float>::nothing);
    const std::vector<double> o = exact(tiles);
    const StaleRow zero = stale(tiles, {.no_reference = 0}), right = stale(tiles);
    const double lost = largest_error(zero, o), kept = largest_error(right, o);
    worst = std::max(worst, kept), at_25 = centre == -25 ? lost : at_25;
    lines.push_back({text("%.0f", centre), text("%.2g", zero.largest_p), text("%.0f", zero.largest_p * 0x1p24),
                     text("%.4f", lost), text("%.4f", kept), text("%.3f", zero.result(0)), text("%.3f", o[0])});
  }
  n.table({"x", "largest p, from 0", "in units of 2^-24", "error from 0", "error from -1e30", "o[0] from 0", "o[0]"}, lines);
  n.say("At -30 nothing is left: every p is rounded to 0, while their sum, which is not rounded, is not. No NaN, no "
        "infinity: a wrong row that looks like a right one.");
  n.check("with -1e30 the error stays what rounding P costs", worst, 0x1p-10);
  n.check_that("with 0 it does not", at_25 > 20 * worst);
}

// A row beside another row: the bits of its o, and how often it was raised. together: the warp decides for all its rows.
struct Beside {
  std::vector<std::uint32_t> bits;
  int raised;
};
inline Beside beside(const RowLogits& mine, const RowLogits& other, bool together) {
  StaleRow row, neighbour;
  for (std::size_t t = 0; t < mine.size(); ++t) {
    const auto value = drawn_values(static_cast<int>(t));
    const bool raised = neighbour.absorb(other[t], row_values, value);
    row.absorb(mine[t], row_values, value, together && raised);
  }
  Beside out{{}, row.redone};
  for (int f = 0; f < row_values; ++f) out.bits.push_back(std::bit_cast<std::uint32_t>(row.result(f)));
  return out;
}

inline void neighbours(Narrator& n) {
  const RowLogits mine = drawn_row(11, {0, 4, 4, 4}, 1);
  const RowLogits calm = drawn_row(12, {0, 4, 4, 4}, 1), loud = drawn_row(13, {0, 4, 30, 4}, 1);
  n.step("A warp votes, and if any of its 16 rows is over, all its threads go through the tile again. But a row takes a "
         "new reference only if it is over itself; the others repeat what they had, with a factor of 1. One row beside a "
         "calm neighbour, and the same row beside a neighbour with logits of 30:");
  std::vector<std::vector<std::string>> lines;
  std::vector<bool> same;
  for (const bool together : {false, true}) {
    const Beside a = beside(mine, calm, together), b = beside(mine, loud, together);
    same.push_back(a.bits == b.bits);
    lines.push_back({together ? "the warp for all its rows" : "each row for itself", text("%d", a.raised),
                     text("%d", b.raised), same.back() ? "the same bits" : "other bits"});
  }
  n.table({"who decides", "raised beside calm", "beside loud", "o of the two"}, lines);
  n.check_that("a row's bits do not depend on its neighbours", same[0]);
  n.check_that("if the warp decided they would", !same[1]);
}

inline void stale_reference(Narrator& n) {
  n.section("A stale reference instead of a running maximum");
  equal_results(n);
  when_done_again(n);
  masked_first(n);
  neighbours(n);
}

}  // namespace flashladder::walkthroughs
