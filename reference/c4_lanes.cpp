#include "reference/c4_lanes.hpp"

#include <algorithm>
#include <span>

#include "reference/item_buffers.hpp"
#include "reference/lanes.hpp"

namespace flashladder::reference::c4 {
namespace {

// Up to N rows of a query tile. Lanes without a row hold zeros of Q, and what they come to is never looked at.
template <int N>
struct Panel {
  static constexpr int W = std::min(N, native_lanes), vectors = N / W;
  static constexpr int sums = vector_registers / 2 / vectors;  // half of the registers hold sums, [sums, N]

  std::span<const QueryRow> rows;
  std::span<SoftmaxState<float>> states;
  const float* q;  // [head_dim_qk, N]
  float* o;        // [head_dim_vo, N]

  bool sees_all(Range keys) const {
    return std::ranges::all_of(rows, [&](const QueryRow& row) {
      return row.mask_row == nullptr && intersect(row.visible, keys) == keys;
    });
  }

  // The hull of what its rows see of `keys`.
  Range seen(Range keys) const {
    Range hull{keys.end, keys.begin};
    for (const QueryRow& row : rows) {
      const Range r = intersect(row.visible, keys);
      if (!r.empty()) hull = {std::min(hull.begin, r.begin), std::max(hull.end, r.end)};
    }
    return hull;
  }
};

// M x N sums that stay in registers.
template <int N, int M>
struct Block {
  static constexpr int W = Panel<N>::W, vectors = Panel<N>::vectors;
  Lanes<W> sum[M][vectors] = {};

  // sum[i] += sum_k a(k, i) b[k], k < n; b [n, N]. It is cut in chunks that use as many elements of a as a fetch brings.
  template <class A>
  void multiply_add(std::int32_t n, A a, const float* b, Prefetcher& ahead) {
    for (std::int32_t k = 0; k < n;) {
      ahead.fetch();
      for (const std::int32_t end = std::min(n, k + Prefetcher::floats_at_once / M); k < end; ++k) {
        Lanes<W> x[vectors];
        for (int v = 0; v < vectors; ++v) x[v] = load<W>(b + k * N + v * W);
        for (int i = 0; i < M; ++i) {
          for (int v = 0; v < vectors; ++v) sum[i][v] += a(k, i) * x[v];
        }
      }
    }
  }

  void store_to(float* to) const {  // [M, N]
    for (int i = 0; i < M; ++i) {
      for (int v = 0; v < vectors; ++v) store<W>(sum[i][v], to + i * N + v * W);
    }
  }
  void add_to(float* to, const float* scale) const {  // to = to * scale + sum; to [M, N], scale [N]
    for (int i = 0; i < M; ++i) {
      for (int v = 0; v < N; v += W) store<W>(load<W>(to + i * N + v) * load<W>(scale + v) + sum[i][v / W], to + i * N + v);
    }
  }
};

// s [M, N] = M rows of K Q^T
template <int N, int M>
void dots(const Panel<N>& panel, std::int32_t dim, const float* const* k, float* s, Prefetcher& ahead) {
  Block<N, M> block;
  block.multiply_add(dim, [&](std::int32_t d, int i) { return k[i][d]; }, panel.q, ahead);
  block.store_to(s);
}

// M features of O^T, from first_dim on: o = o * scale + V^T P^T
template <int N, int M>
void add_values(const Panel<N>& panel, std::int32_t first_dim, const float* scale, std::int32_t n, const float* const* v,
                const float* p, Prefetcher& ahead) {
  float as_it_is[N];
  std::ranges::fill(as_it_is, 1.0f);
  for (std::int32_t j = 0; j < n; j += longest_chain) {
    Block<N, M> block;
    const auto value = [&](std::int32_t key, int i) { return v[j + key][first_dim + i]; };
    block.multiply_add(std::min(n - j, longest_chain), value, p + j * N, ahead);
    block.add_to(panel.o + first_dim * N, j == 0 ? scale : as_it_is);
  }
}

// s [keys, N]: dots become logits, -inf where a row does not see a key.
template <int N>
void to_logits(const Panel<N>& panel, Range keys, std::vector<float>& logits_of_row, float* s) {
  const bool scales = std::ranges::all_of(panel.rows, [](const QueryRow& row) { return row.transform.only_scales(); });
  if (scales && panel.sees_all(keys)) {
    const float scale = panel.rows.front().transform.sm_scale * static_cast<float>(log2_e);
    for (std::int32_t i = 0; i < keys.size() * N; ++i) s[i] *= scale;
    return;
  }
  logits_of_row.resize(static_cast<std::size_t>(keys.size()));
  Eigen::Map<Eigen::RowVectorXf> logits(logits_of_row.data(), keys.size());
  for (std::size_t r = 0; r < panel.rows.size(); ++r) {
    Eigen::Map<Eigen::RowVectorXf, Eigen::Unaligned, Eigen::InnerStride<N>> column(s + r, keys.size());
    logits = column;
    panel.rows[r].to_logits(logits, keys.begin);
    column = logits;
  }
}

// s [n, N]: S^T becomes P^T, relative to the new maxima. scale [N]: what o, relative to the old ones, has to be scaled by.
template <int N>
void softmax(const Panel<N>& panel, std::int32_t n, float* s, float* scale) {
  constexpr int W = Panel<N>::W;
  float m[N] = {}, d[N] = {};
  for (std::size_t r = 0; r < panel.rows.size(); ++r) m[r] = panel.states[r].m;
  for (int v = 0; v < N; v += W) {
    Lanes<W> top = load<W>(m + v), sum{};
    for (std::int32_t j = 0; j < n; ++j) {
      const Lanes<W> x = load<W>(s + j * N + v);
      top = x > top ? x : top;
    }
    store<W>(top, m + v);
    const Lanes<W> base = top == SoftmaxState<float>::nothing ? Lanes<W>{} : top;  // an empty row has P = 2^(-inf - 0) = 0
    for (std::int32_t j = 0; j < n;) {
      Lanes<W> some{};
      for (const std::int32_t end = std::min(n, j + longest_chain); j < end; ++j) {
        const Lanes<W> p = exp2_below_1<W>(load<W>(s + j * N + v) - base);
        some += p;
        store<W>(p, s + j * N + v);
      }
      sum += some;
    }
    store<W>(sum, d + v);
  }
  for (std::size_t r = 0; r < panel.rows.size(); ++r) scale[r] = merge(panel.states[r], {m[r], d[r]}).a;
}

bool finite(const float* const* rows, std::int32_t n, std::int32_t dim) {
  return std::all_of(rows, rows + n, [=](const float* row) {
    return Eigen::Map<const Eigen::RowVectorXf>(row, dim).allFinite();
  });
}

// As add_values, for values that are not all finite: 0 * NaN is NaN, so what a row does not see is left out, and not weighed
// with P = 0. Rare, and so row by row.
template <int N>
void add_seen_values(const Panel<N>& panel, Range keys, std::int32_t dim, const float* scale, const float* const* v,
                     const float* p) {
  for (std::size_t r = 0; r < panel.rows.size(); ++r) {
    for (std::int32_t d = 0; d < dim; ++d) {
      float& o = panel.o[d * N + static_cast<std::int32_t>(r)];
      o *= scale[r];
      for (std::int32_t j = 0; j < keys.size();) {
        float sum = 0;
        for (const std::int32_t end = std::min(keys.size(), j + longest_chain); j < end; ++j) {
          if (panel.rows[r].sees(keys.begin + j)) sum += p[j * N + static_cast<std::int32_t>(r)] * v[j][d];
        }
        o += sum;
      }
    }
  }
}

// C1's absorb_keys for one panel and those keys of the tile that it sees.
template <int N>
void absorb_keys(const Panel<N>& panel, const AttentionParams& p, const KeyTile& tile, ItemBuffers& buffers) {
  float* s = buffers.s.data();
  const Range keys = panel.seen(tile.keys);
  if (keys.empty()) return;
  const std::int32_t n = keys.size(), skipped = keys.begin - tile.keys.begin;
  const float* const* k = tile.k + skipped;
  const float* const* v = tile.v + skipped;
  Prefetcher ahead = tile.ahead;
  constexpr int M = std::min(Panel<N>::sums, 8);  // a key's row takes a pointer, and those have 16 registers
  std::int32_t j = 0, d = 0;
  for (; j + M <= n; j += M) dots<N, M>(panel, p.head_dim_qk, k + j, s + j * N, ahead);
  for (; j < n; ++j) dots<N, 1>(panel, p.head_dim_qk, k + j, s + j * N, ahead);
  to_logits(panel, keys, buffers.logits, s);
  float scale[N] = {};
  softmax(panel, n, s, scale);
  if (!panel.sees_all(keys) && !finite(v, n, p.head_dim_vo)) {
    add_seen_values(panel, keys, p.head_dim_vo, scale, v, s);
    return;
  }
  constexpr int L = Panel<N>::sums;
  for (; d + L <= p.head_dim_vo; d += L) add_values<N, L>(panel, d, scale, n, v, s, ahead);
  for (; d < p.head_dim_vo; ++d) add_values<N, 1>(panel, d, scale, n, v, s, ahead);
}

template <int N>
void run(const AttentionParams& params, const QueryTile& tile, KeyTiles& keys, ItemBuffers& buffers, Accumulator& acc) {
  const std::int32_t dqk = params.head_dim_qk, dvo = params.head_dim_vo, panels = div_up(tile.size(), N);
  buffers.q.setZero(panels * dqk, N);  // Q^T and O^T, [panels * head_dim, N]
  buffers.o.setZero(panels * dvo, N);
  buffers.s.resize(KeyStream::gathered_tile, N);  // S^T, then P^T, [keys of a tile, N]
  for (std::int32_t r = 0; r < tile.size(); ++r) buffers.q.col(r % N).segment(r / N * dqk, dqk) = tile.q.row(r);
  for (KeyTile now; keys.next(now);) {
    for (std::int32_t i = 0; i < panels; ++i) {
      const std::int32_t first = i * N, rows = std::min(N, tile.size() - first);
      const Panel<N> panel{std::span(tile.rows).subspan(first, rows), std::span(acc.states).subspan(first, rows),
                           buffers.q.row(i * dqk).data(), buffers.o.row(i * dvo).data()};
      absorb_keys(panel, params, now, buffers);
    }
  }
  for (std::int32_t r = 0; r < tile.size(); ++r) acc.o.row(r) = buffers.o.col(r % N).segment(r / N * dvo, dvo);
}

constexpr int widest = std::max(16, 2 * native_lanes);

}  // namespace

bool reads_keys_once(const QueryTile& tile) { return tile.size() <= widest; }

// Few rows (decode) get few lanes: a vector of 16 that holds 4 rows would do 4 times the work.
void attend_tiles(const AttentionParams& params, const QueryTile& tile, KeyTiles& keys, ItemBuffers& buffers,
                  Accumulator& acc) {
  const auto go = tile.size() <= 4 ? run<4> : tile.size() <= 8 ? run<8> : tile.size() <= 16 ? run<16> : run<widest>;
  go(params, tile, keys, buffers, acc);
}

void attend_item(const AttentionProblem& problem, const QueryTile& tile, std::int32_t kv_head, Range keys,
                 ItemBuffers& buffers, Accumulator& acc) {
  KeyStream stream(problem, tile.request, kv_head, intersect(keys, tile.keys), reads_keys_once(tile), buffers.keys);
  attend_tiles(problem.params, tile, stream, buffers, acc);
}

}  // namespace flashladder::reference::c4
