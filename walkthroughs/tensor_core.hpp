// A warp's tensor-core instructions on the CPU, on registers of 32 lanes: mma.m16n8k16, ldmatrix, movmatrix, built on
// core/fragment_map.hpp. And D5's tile loop, made of them as gpu/decode/d5_tensor_cores.cu is.
#pragma once

#include <vector>

#include "core/fragment_map.hpp"
#include "core/swizzle.hpp"
#include "walkthroughs/plan_run.hpp"
#include "walkthroughs/warp.hpp"

namespace flashladder::walkthroughs {

// The elements that each lane holds: 8 of A, 4 of B, 4 of C; [lane][i].
template <int elements>
using Fragment = Lanes<std::array<float, elements>>;
using FragmentMap = FragmentElement (*)(std::int32_t lane, std::int32_t i);

template <int elements, class Value>
Fragment<elements> fragment(FragmentMap map, Value value) {  // value(row, col)
  Fragment<elements> out{};
  for (int lane = 0; lane < warp_lanes; ++lane) {
    for (int i = 0; i < elements; ++i) out[lane][i] = value(map(lane, i).row, map(lane, i).col);
  }
  return out;
}

// The matrix whose elements the lanes hold, rows * cols.
template <int elements>
std::vector<float> matrix(FragmentMap map, const Fragment<elements>& held, int cols) {
  std::vector<float> out(warp_lanes * elements);
  for (int lane = 0; lane < warp_lanes; ++lane) {
    for (int i = 0; i < elements; ++i) out[map(lane, i).row * cols + map(lane, i).col] = held[lane][i];
  }
  return out;
}

// c += a b: 16 x 16 times 16 x 8.
inline void mma(Fragment<4>& c, const Fragment<8>& a, const Fragment<4>& b) {
  const std::vector<float> left = matrix<8>(mma_a_element, a, 16), right = matrix<4>(mma_b_element, b, 8);
  for (int lane = 0; lane < warp_lanes; ++lane) {
    for (int i = 0; i < mma_c_elements; ++i) {
      const auto [row, col] = mma_c_element(lane, i);
      for (int k = 0; k < 16; ++k) c[lane][i] += left[row * 16 + k] * right[k * 8 + col];
    }
  }
}

// An 8 x 8 block of 16-bit elements in registers, lane l holding two neighbours of row l / 4, becomes its transpose.
inline Fragment<2> movmatrix(const Fragment<2>& block) {
  Fragment<2> out{};
  for (int lane = 0; lane < warp_lanes; ++lane) {
    for (int i = 0; i < 2; ++i) {
      const int row = lane / 4, col = lane % 4 * 2 + i;  // of the result; it is element (col, row) of the block
      out[lane][i] = block[col * 4 + row / 2][row % 2];
    }
  }
  return out;
}

// Tokens of K or V in shared memory, a row of 16-byte chunks each, swizzled as gpu/decode/tile_ring.cuh does.
struct SharedTile {
  int chunks;
  std::vector<Half> rows;  // [tokens, chunks * 8]

  explicit SharedTile(int head_dim, int tokens = 16) : chunks(head_dim / 8), rows(tokens * head_dim) {}
  int offset(int token, int chunk) const {  // in bytes
    return (token * chunks + swizzled_chunk(Swizzle::bytes_128, token, chunk)) * chunk_bytes;
  }
  Half* at(int token, int chunk) { return rows.data() + offset(token, chunk) / 2; }
  const Half* at(int token, int chunk) const { return rows.data() + offset(token, chunk) / 2; }
};

// Which 16 bytes lane l names for the ldmatrix of a step, 16 features: row is the token, chunk counts along the features.
inline NamedRow k_row(int lane, int step) {
  const NamedRow named = ldmatrix_a_row(lane);
  return {named.row, 2 * step + named.chunk};
}
inline NamedRow v_row(int lane, int step) {
  const NamedRow named = ldmatrix_trans_a_row(lane);
  return {named.row, 2 * step + named.chunk};
}

// Block b's row r is the 16 bytes that lane 8 b + r names; lane l gets two neighbours of row l / 4, or of column l / 4.
template <class RowOf>
Fragment<8> ldmatrix(const SharedTile& tile, RowOf row_of, int step, bool transposed) {
  Fragment<8> out{};
  for (int lane = 0; lane < warp_lanes; ++lane) {
    for (int i = 0; i < 8; ++i) {
      const int own = lane / 4, pair = lane % 4 * 2 + i % 2, row = transposed ? pair : own;
      const auto [token, chunk] = row_of(i / 2 * 8 + row, step);
      out[lane][i] = static_cast<float>(tile.at(token, chunk)[transposed ? own : pair]);
    }
  }
  return out;
}

// The maximum, or the sum, over the lanes that hold the same column: three shuffles, distances 4, 8, 16.
template <class Join>
float over_rows(const Lanes<float>& x, int lane, Join join) {
  float out = x[lane % 4];
  for (int row = 1; row < 8; ++row) out = join(out, x[row * 4 + lane % 4]);
  return out;
}

// Tokens of an item, from `first` on; zeros beyond its end, as cp_async_16 writes them.
inline void load_tile(const AttentionProblem& problem, const WorkItem& item, int kv_head, int first, SharedTile& k,
                      SharedTile& v) {
  const int tokens = static_cast<int>(k.rows.size()) / (k.chunks * 8);
  for (int t = 0; t < tokens && first + t < item.keys.end; ++t) {
    const KvSlot slot = problem.page_table().locate(item.request, first + t);
    for (int chunk = 0; chunk < k.chunks; ++chunk) {
      const std::int64_t k_at = problem.kv.k_strides.offset(slot, kv_head) + chunk * 8;
      const std::int64_t v_at = problem.kv.v_strides.offset(slot, kv_head) + chunk * 8;
      std::copy_n(static_cast<const Half*>(problem.kv.k) + k_at, 8, k.at(t, chunk));
      std::copy_n(static_cast<const Half*>(problem.kv.v) + v_at, 8, v.at(t, chunk));
    }
  }
}

// What a warp holds of 8 heads: softmax states of the lane's two columns, and O^T, 16 features x 8 heads a fragment.
struct HeadTile {
  Fragment<2> m, d{};
  std::vector<Fragment<4>> o;

  explicit HeadTile(int steps) : o(steps) { m.fill({SoftmaxState<float>::nothing, SoftmaxState<float>::nothing}); }

  // s: logits of 16 tokens x 8 heads, a C fragment, `tokens` of them seen. Returns P^T in fp16, a B fragment.
  Fragment<4> absorb(Fragment<4> s, int tokens) {
    using State = SoftmaxState<float>;
    Fragment<2> upper{}, lower{};  // P of tokens 0 .. 7 and 8 .. 15
    for (int j = 0; j < 2; ++j) {
      for (int lane = 0; lane < warp_lanes; ++lane) {
        if (lane / 4 >= tokens) s[lane][j] = State::nothing;
        if (lane / 4 + 8 >= tokens) s[lane][j + 2] = State::nothing;
      }
      const auto both = each_lane([&](int lane) { return std::fmax(s[lane][j], s[lane][j + 2]); });
      for (int lane = 0; lane < warp_lanes; ++lane) {
        const float most = std::fmax(m[lane][j], over_rows(both, lane, [](float a, float b) { return std::fmax(a, b); }));
        const float rescale = State::weight(m[lane][j], most);
        const float high = State::weight(s[lane][j], most), low = State::weight(s[lane][j + 2], most);
        m[lane][j] = most;
        d[lane][j] = d[lane][j] * rescale + high + low;
        for (auto& part : o) part[lane][j] *= rescale, part[lane][j + 2] *= rescale;
        upper[lane][j] = static_cast<float>(Half(high)), lower[lane][j] = static_cast<float>(Half(low));
      }
    }
    upper = movmatrix(upper), lower = movmatrix(lower);
    Fragment<4> p{};
    for (int lane = 0; lane < warp_lanes; ++lane) p[lane] = {upper[lane][0], upper[lane][1], lower[lane][0], lower[lane][1]};
    return p;
  }

  FinishedRow finish(int head) const {
    const int holder = head / 2, j = head % 2;  // a lane that holds this column
    const auto sums = each_lane([&](int lane) { return d[lane][j]; });
    FinishedRow row{{m[holder][j], over_rows(sums, holder, [](float a, float b) { return a + b; })}, {}};
    for (const Fragment<4>& part : o) {
      const std::vector<float> features = matrix<4>(mma_c_element, part, 8);
      for (int i = 0; i < 16; ++i) row.o.push_back(features[i * 8 + head]);
    }
    return row;
  }
};

// Which of an item's tiles of 16 tokens a warp has, when so many share them: warp w those whose number is w modulo `count`.
struct WarpTurn {
  int warp = 0, count = 1;
};

// What one of several warps finds of an item by D5's tile loop: at most 8 packed rows.
inline std::vector<FinishedRow> attend_in_turn(const AttentionProblem& problem, const WorkItem& item, WarpTurn turn) {
  const AttentionParams& p = problem.params;
  const int dim = p.head_dim_qk, steps = dim / 16, rows = item.rows.size();
  const int first_head = item.head * p.group_size() + item.rows.begin;
  const auto* q = static_cast<const Half*>(problem.q.data) + (item.request * p.num_qo_heads + first_head) * dim;
  std::vector<Fragment<4>> queries;  // Q^T; heads beyond the item's rows are 0
  for (int i = 0; i < steps; ++i) {
    queries.push_back(fragment<4>(mma_b_element, [&](int feature, int head) {
      return head < rows ? static_cast<float>(q[head * dim + i * 16 + feature]) : 0.0f;
    }));
  }
  HeadTile heads(steps);
  for (int first = item.keys.begin + 16 * turn.warp; first < item.keys.end; first += 16 * turn.count) {
    SharedTile k(dim), v(dim);
    load_tile(problem, item, item.head, first, k, v);
    Fragment<4> s{};
    for (int i = 0; i < steps; ++i) mma(s, ldmatrix(k, k_row, i, false), queries[i]);
    for (auto& lane : s) {
      for (float& x : lane) x *= p.sm_scale * static_cast<float>(log2_e);
    }
    const Fragment<4> weights = heads.absorb(s, item.keys.end - first);
    for (int i = 0; i < steps; ++i) mma(heads.o[i], ldmatrix(v, v_row, i, true), weights);
  }
  std::vector<FinishedRow> out;
  for (int head = 0; head < rows; ++head) out.push_back(heads.finish(head));
  return out;
}

// D5's item with one warp.
inline std::vector<FinishedRow> attend_on_tensor_cores(const AttentionProblem& problem, const WorkItem& item) {
  return attend_in_turn(problem, item, {});
}

}  // namespace flashladder::walkthroughs
