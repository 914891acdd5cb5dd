// P5's loop on the CPU: one buffer for K and one for V, copies that are under way, barriers. And its timeline, in ticks.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "walkthroughs/narrate.hpp"
#include "walkthroughs/prefill_warp.hpp"

namespace flashladder::walkthroughs {

// A copy that was started may land at once, or only when it is waited for. A right kernel gives the same either way.
enum class Landing { at_once, late };
enum class Mistake { none, k_before_the_barrier, v_not_waited_for, v_before_the_barrier };

struct Buffer {
  SharedTile tile;
  std::optional<SharedTile> coming{};
  void start(const SharedTile& from, Landing landing) {
    coming = from;
    if (landing == Landing::at_once) wait();
  }
  void wait() {
    if (coming) tile = *coming;
    coming.reset();
  }
};

// Right operands for two neighbouring mma, as one ldmatrix.x4 of P4 and P5 brings them: 16 keys x 16 features.
inline NamedRow k_pair_row(int lane, int first_key, int step) {
  return {first_key + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2};
}
inline NamedRow v_pair_row(int lane, int first_key, int step) { return {first_key + lane % 16, 2 * step + lane / 16}; }
inline Fragment<4> half_of(const Fragment<8>& pair, int which) {
  return each_lane([&](int l) {
    return std::array{pair[l][4 * which], pair[l][4 * which + 1], pair[l][4 * which + 2], pair[l][4 * which + 3]};
  });
}
inline Fragment<4> k_operand(const SharedTile& k, int n, int i) {
  const auto row = [n](int lane, int step) { return k_pair_row(lane, n / 2 * 16, step); };
  return half_of(ldmatrix(k, row, i, false), n % 2);
}
inline Fragment<4> v_operand(const SharedTile& v, int i, int n) {
  const auto row = [i](int lane, int step) { return v_pair_row(lane, i * 16, step); };
  return half_of(ldmatrix(v, row, n / 2, true), n % 2);
}

struct P5Shape {
  int warps = 4, row_tiles = 2, keys = 48;  // head_dim 128
  int warp_rows() const { return 16 * row_tiles; }
};

inline std::vector<FinishedRow> p5_item(const AttentionProblem& problem, const WorkItem& item, int pack, Landing landing,
                                        Mistake mistake = Mistake::none) {
  const P5Shape shape;
  const ItemRows rows{problem, item, pack};
  const int tiles = div_up(item.keys.size(), shape.keys), there = item.rows.size();
  struct Warp {
    std::vector<WarpRows> mine;  // [row_tiles]
    SeenTiles tiles;
    std::vector<Scores> s;
  };
  std::vector<Warp> warps(shape.warps);
  for (int w = 0; w < shape.warps; ++w) {
    const int first = w * shape.warp_rows(), last = std::min(first + shape.warp_rows(), there) - 1;
    for (int r = 0; r < shape.row_tiles; ++r) warps[w].mine.emplace_back(rows, first + r * 16);
    if (last >= first) warps[w].tiles = seen_tiles(rows, first, last, shape.keys);
  }
  const int dim = problem.params.head_dim_qk;
  Buffer k{SharedTile(dim, shape.keys)}, v{SharedTile(dim, shape.keys)};
  const auto copy = [&](Buffer& to, int tile, bool keys) {
    if (tile >= tiles) return;
    const KeyTile from(rows, item.keys.begin + tile * shape.keys, shape.keys);
    to.start(keys ? from.k : from.v, landing);
  };
  copy(k, 0, true);
  for (int tile = 0; tile < tiles; ++tile) {
    const int first_key = item.keys.begin + tile * shape.keys;
    k.wait();  // K of this tile has arrived; all warps are done with V of the last one
    if (mistake != Mistake::v_before_the_barrier || tile == 0) copy(v, tile, false);
    if (mistake == Mistake::k_before_the_barrier) copy(k, tile + 1, true);
    for (Warp& warp : warps) {
      if (!warp.tiles.some.contains(tile)) continue;
      warp.s.clear();
      for (const WarpRows& mine : warp.mine) {
        warp.s.push_back(mine.scores(shape.keys, [&](int n, int i) { return k_operand(k.tile, n, i); }));
      }
    }
    if (mistake != Mistake::v_not_waited_for) v.wait();  // V has arrived; all warps are done with K
    if (mistake != Mistake::k_before_the_barrier) copy(k, tile + 1, true);
    for (int w = 0; w < shape.warps; ++w) {
      Warp& warp = warps[w];
      // The other warps are through, and nothing holds them.
      if (mistake == Mistake::v_before_the_barrier && w + 1 == shape.warps) copy(v, tile + 1, false);
      if (!warp.tiles.some.contains(tile)) continue;
      for (int r = 0; r < shape.row_tiles; ++r) {
        if (!warp.tiles.all.contains(tile)) mask(warp.s[r], rows, w * shape.warp_rows() + r * 16, first_key);
        warp.mine[r].softmax(warp.s[r], scale_of(problem.params));
        warp.mine[r].weigh_values(warp.s[r], [&](int i, int n) { return v_operand(v.tile, i, n); });
      }
    }
  }
  std::vector<FinishedRow> out;
  for (int row = 0; row < there; ++row) {
    out.push_back(warps[row / shape.warp_rows()].mine[row % shape.warp_rows() / 16].finish(row % 16));
  }
  return out;
}

// What a CTA does with its tiles, in ticks: a copy takes `copy` of them from when it is asked for.
struct Ticks {
  int scores = 6, softmax = 4, values = 6, copy = 8;
};
struct TileTimes {
  int k_asked, k_there, v_asked, v_there, scores, softmax, values, done;  // the last four: when they begin, and the end
};
inline std::vector<TileTimes> tile_times(const Ticks& t, int tiles, bool overlapped) {
  std::vector<TileTimes> out;
  int now = 0, k_asked = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    TileTimes at{};
    at.k_asked = overlapped ? k_asked : now, at.k_there = at.k_asked + t.copy;
    now = std::max(now, at.k_there);
    at.v_asked = overlapped ? now : at.k_asked, at.v_there = at.v_asked + t.copy;
    at.scores = now;
    now = std::max(now + t.scores, at.v_there);  // P4 has waited for both already
    k_asked = now;
    at.softmax = now, at.values = at.softmax + t.softmax, at.done = now = at.values + t.values;
    out.push_back(at);
  }
  return out;
}
inline int ticks_a_tile(const Ticks& t, bool overlapped) {
  const std::vector<TileTimes> times = tile_times(t, 10, overlapped);
  return times[9].done - times[8].done;
}

// Dashes: a copy is under way. Digits: the tile that is worked on.
inline std::string drawn(const Ticks& t, int tiles, bool overlapped) {
  const std::vector<TileTimes> times = tile_times(t, tiles, overlapped);
  std::vector<std::string> lines(4, std::string(times.back().done, ' '));
  for (int tile = 0; tile < tiles; ++tile) {
    const TileTimes& at = times[tile];
    const char digit = static_cast<char>('0' + tile);
    const auto bar = [&](int line, int begin, int end, char fill) {
      std::fill(lines[line].begin() + begin, lines[line].begin() + end, fill);
    };
    bar(0, at.k_asked, at.k_there, '-'), bar(1, at.v_asked, at.v_there, '-');
    lines[0][at.k_asked] = lines[1][at.v_asked] = digit;
    bar(2, at.scores, at.scores + t.scores, digit), bar(2, at.values, at.done, digit);
    bar(3, at.softmax, at.values, digit);
  }
  std::string out;
  const std::array names{"K comes       ", "V comes       ", "tensor cores  ", "softmax       "};
  for (int i = 0; i < 4; ++i) out += names[i] + lines[i].substr(0, lines[i].find_last_not_of(' ') + 1) + "\n";
  return out;
}

}  // namespace flashladder::walkthroughs
