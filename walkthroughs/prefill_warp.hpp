// A warp of P3, P4 and P5 on the CPU: 16 packed rows against tiles of keys, made of chapter 08's instructions. And which
// keys the rows see, as gpu/prefill/row_keys.cuh says it. fp16, no variant but Scaled.
#pragma once

#include <algorithm>
#include <vector>

#include "core/visibility.hpp"
#include "walkthroughs/tensor_core.hpp"

namespace flashladder::walkthroughs {

inline constexpr int warp_rows = 16;

// Where the packed rows of an item lie, and which of its keys they see. Rows behind the last stand for the last.
struct ItemRows {
  const AttentionProblem& problem;
  const WorkItem& item;
  int pack;

  int kv_head() const { return kv_head_of(item.head, pack, problem.params.group_size()); }
  RowPlace place(int row) const { return row_of(item.head, item.rows.begin + std::min(row, item.rows.size() - 1), pack); }
  Range seen_by(int query) const {
    const int qo_len = problem.qo_len(item.request), kv_len = problem.kv_len(item.request);
    return intersect(visible_keys(problem.params, qo_len, kv_len, query), item.keys);
  }
  Range seen(int row) const { return seen_by(place(row).query); }
  float q(int row, int feature) const {
    const AttentionParams& p = problem.params;
    const RowPlace at = place(row);
    const std::int64_t token = problem.queries(item.request).begin + at.query;
    return static_cast<float>(static_cast<const Half*>(problem.q.data)[(token * p.num_qo_heads + at.qo_head) *
                                                                           p.head_dim_qk + feature]);
  }
};

// Tiles of `size` keys, counted from the item's first key, for its rows first .. last: which of them some row sees, and
// which of them lie within what all these rows see.
struct SeenTiles {
  Range some, all;
};
inline SeenTiles seen_tiles(const ItemRows& rows, int first, int last, int size) {
  const int begin = rows.item.keys.begin;
  const Range hull{rows.seen(first).begin, rows.seen(last).end}, of_all{rows.seen(last).begin, rows.seen(first).end};
  SeenTiles tiles;
  if (!hull.empty()) tiles.some = {(hull.begin - begin) / size, (hull.end - 1 - begin) / size + 1};
  if (!of_all.empty()) tiles.all = {div_up(of_all.begin - begin, size), (of_all.end - begin) / size};
  return tiles;
}

// Two neighbours of an accumulator, rounded to 16 bits, are a left operand as they stand.
inline Fragment<8> as_operand(const Fragment<4>& left, const Fragment<4>& right) {
  Fragment<8> a{};
  for (int lane = 0; lane < warp_lanes; ++lane) {
    for (int i = 0; i < 8; ++i) a[lane][i] = static_cast<float>(Half(i < 4 ? left[lane][i] : right[lane][i - 4]));
  }
  return a;
}

// A row lies in four neighbouring lanes: two shuffles, distances 1 and 2.
template <class Join>
float over_row(const Lanes<float>& x, int lane, Join join) {
  const int first = lane / 4 * 4;
  return join(join(x[first], x[first + 1]), join(x[first + 2], x[first + 3]));
}

using Scores = std::vector<Fragment<4>>;  // [keys / 8], 16 rows x 8 keys each

struct WarpRows {
  std::vector<Fragment<8>> q;  // [head_dim / 16]
  Fragment<2> m, d{};          // of rows lane / 4 and lane / 4 + 8; d of this lane's keys only, until the end
  std::vector<Fragment<4>> o;  // [head_dim / 8]

  WarpRows(const ItemRows& rows, int first_row) {
    const int dim = rows.problem.params.head_dim_qk;
    m.fill({SoftmaxState<float>::nothing, SoftmaxState<float>::nothing});
    o.resize(dim / 8);
    for (int i = 0; i < dim / 16; ++i) {
      q.push_back(fragment<8>(mma_a_element, [&](int row, int k) { return rows.q(first_row + row, i * 16 + k); }));
    }
  }

  // b(n, i): keys 8 n .. 8 n + 7, features 16 i .. 16 i + 15, as a right operand.
  template <class Operand>
  Scores scores(int keys, Operand b) const {
    Scores s(keys / 8);
    for (int n = 0; n < keys / 8; ++n) {
      for (std::size_t i = 0; i < q.size(); ++i) mma(s[n], q[i], b(n, static_cast<int>(i)));
    }
    return s;
  }

  // s becomes P, not normalised; o is rescaled to the new maximum. guarded = false is a wrong way.
  void softmax(Scores& s, float scale, bool guarded = true) {
    for (int h = 0; h < 2; ++h) {
      const auto most_of_lane = each_lane([&](int lane) {
        float most = SoftmaxState<float>::nothing;
        for (const auto& at : s) most = std::fmax(most, std::fmax(at[lane][2 * h], at[lane][2 * h + 1]));
        return most;
      });
      for (int lane = 0; lane < warp_lanes; ++lane) {
        const float most = std::fmax(m[lane][h], scale * over_row(most_of_lane, lane, [](float a, float b) {
          return std::fmax(a, b);
        }));
        const float base = guarded && most == SoftmaxState<float>::nothing ? 0 : most;
        const float rescale = std::exp2(m[lane][h] - base);
        float sum = 0;
        for (auto& at : s) {
          for (int i = 2 * h; i < 2 * h + 2; ++i) sum += at[lane][i] = std::exp2(std::fma(at[lane][i], scale, -base));
        }
        m[lane][h] = most, d[lane][h] = d[lane][h] * rescale + sum;
        for (auto& at : o) at[lane][2 * h] *= rescale, at[lane][2 * h + 1] *= rescale;
      }
    }
  }

  // b(i, n): keys 16 i .. 16 i + 15, features 8 n .. 8 n + 7, as a right operand.
  template <class Operand>
  void weigh_values(const Scores& p, Operand b) {
    for (std::size_t i = 0; i < p.size() / 2; ++i) {
      const Fragment<8> a = as_operand(p[2 * i], p[2 * i + 1]);
      for (std::size_t n = 0; n < o.size(); ++n) mma(o[n], a, b(static_cast<int>(i), static_cast<int>(n)));
    }
  }

  SoftmaxState<float> state(int row) const {
    const int lane = row % 8 * 4, h = row / 8;
    const auto sums = each_lane([&](int l) { return d[l][h]; });
    return {m[lane][h], over_row(sums, lane, [](float a, float b) { return a + b; })};
  }
  FinishedRow finish(int row) const {
    FinishedRow out{state(row), {}};
    for (const Fragment<4>& part : o) {
      const std::vector<float> features = matrix<4>(mma_c_element, part, 8);
      for (int i = 0; i < 8; ++i) out.o.push_back(features[row * 8 + i]);
    }
    return out;
  }
};

// A score that a row does not see becomes `hidden`: -inf, and anything else is a wrong way.
inline void mask(Scores& s, const ItemRows& rows, int first_row, int first_key,
                 float hidden = SoftmaxState<float>::nothing) {
  for (int row = 0; row < warp_rows; ++row) {
    const Range seen = rows.seen(first_row + row);
    for (int key = 0; key < 8 * static_cast<int>(s.size()); ++key) {
      const int lane = row % 8 * 4 + key % 8 / 2, i = row / 8 * 2 + key % 2;  // of mma_c_element
      if (!seen.contains(first_key + key)) s[key / 8][lane][i] = hidden;
    }
  }
}

inline float scale_of(const AttentionParams& p) { return p.sm_scale * static_cast<float>(log2_e); }

// How K and V lie in shared memory, and right operands of them as P3 reads them: element by element.
struct KeyTile {
  SharedTile k, v;
  KeyTile(const ItemRows& rows, int first_key, int keys)
      : k(rows.problem.params.head_dim_qk, keys), v(rows.problem.params.head_dim_vo, keys) {
    load_tile(rows.problem, rows.item, rows.kv_head(), first_key, k, v);
  }
  static float at(const SharedTile& tile, int key, int feature) {
    return static_cast<float>(tile.at(key, feature / 8)[feature % 8]);
  }
  Fragment<4> of_k(int n, int i) const {
    return fragment<4>(mma_b_element, [&](int feature, int key) { return at(k, n * 8 + key, i * 16 + feature); });
  }
  Fragment<4> of_v(int i, int n) const {
    return fragment<4>(mma_b_element, [&](int key, int feature) { return at(v, i * 16 + key, n * 8 + feature); });
  }
};

// P3's loop: what the warp's rows hold after each tile is visit(tile, warp)'s to see.
template <class Visit>
WarpRows p3_warp(const ItemRows& rows, int first_row, int tile_keys, Visit visit) {
  WarpRows mine(rows, first_row);
  for (int key = rows.item.keys.begin; key < rows.item.keys.end; key += tile_keys) {
    const KeyTile tile(rows, key, tile_keys);
    Scores s = mine.scores(tile_keys, [&](int n, int i) { return tile.of_k(n, i); });
    mask(s, rows, first_row, key);
    mine.softmax(s, scale_of(rows.problem.params));
    mine.weigh_values(s, [&](int i, int n) { return tile.of_v(i, n); });
    visit(key / tile_keys, mine);
  }
  return mine;
}

inline std::vector<FinishedRow> p3_item(const AttentionProblem& problem, const WorkItem& item, int pack) {
  const ItemRows rows{problem, item, pack};
  std::vector<FinishedRow> out;
  for (int first = 0; first < item.rows.size(); first += warp_rows) {
    const WarpRows warp = p3_warp(rows, first, 64, [](int, const WarpRows&) {});
    for (int r = 0; r < std::min(warp_rows, item.rows.size() - first); ++r) out.push_back(warp.finish(r));
  }
  return out;
}

}  // namespace flashladder::walkthroughs
