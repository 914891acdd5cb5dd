// P5, copies under way while tensor cores compute: FlashAttention-2's class (arXiv:2307.08691). Must equal P4.
// grid   the GPU's CTAs, which claim work, then rows of merges      block  128 threads, 32 rows a warp, or 256, 16 rows
// shared memory   a tile of 128 rows of q, and 48 or 64 of K and of V: 60 KB for head_dim 128
// New: cp.async. V of a tile arrives while its scores are computed, K of the next tile while the softmax and P V are, so
// that one buffer of each is enough; page ids come a round of tiles ahead. A warp of 32 rows reads each fragment of K and V
// once for two mma. Tiles that all rows of a warp see are not asked about masks, tiles that none sees are left out. The next
// work is claimed while this one is done. o goes by way of shared memory, 16 bytes a store.
// It takes two dtypes, four pairs of head dims, and every feature (gpu/prefill/instances.cuh); RoPE as it comes rotated.
// Leaves out: what came after sm_80: copies by TMA, wgmma, warps that only copy. A value of V that is not finite reaches all
// rows of the tiles in which some row sees it: a weight of 0 does not take it away.
#include <type_traits>

#include "gpu/attention/merge_partials.hpp"
#include "gpu/attention/packed_work.cuh"
#include "gpu/attention/thread_group.cuh"
#include "gpu/launch.hpp"
#include "gpu/prefill/instances.cuh"
#include "gpu/prefill/prefill.hpp"
#include "gpu/prefill/row_keys.cuh"
#include "gpu/prefill/row_logits.cuh"
#include "gpu/prefill/swizzled_row.cuh"
#include "gpu/prefill/tile_copies.cuh"
#include "gpu/prefill/write_rows.cuh"
#include "gpu/ptx/ex2.cuh"
#include "gpu/ptx/mma.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu::p5 {
namespace {

constexpr int tile_rows = 128;
// Tiles of 16 rows that a warp has: as many as registers hold o of.
constexpr int row_tiles_of(std::int32_t head_dim_vo, bool scaled) { return scaled && head_dim_vo <= 128 ? 2 : 1; }

template <class Element_, int qk_, int vo_, class Variant_>
struct Shape {
  using Element = Element_;
  using Variant = Variant_;
  static constexpr int qk = qk_, vo = vo_;
  static constexpr int row_tiles = row_tiles_of(vo, std::is_same_v<Variant, Scaled>), warp_rows = 16 * row_tiles;
  static constexpr int keys = row_tiles == 2 && vo == 128 ? 48 : 64;
  static constexpr int warps = tile_rows / warp_rows, threads = 32 * warps, ctas_per_sm = row_tiles;
  static constexpr bool keeps_query = row_tiles * (vo / 2 + keys / 2 + qk / 4) <= 192;  // registers: o, scores, q
  static_assert(qk % 64 == 0 && vo % 64 == 0 && vo <= qk, "rows are rows of bank rows, and o takes the place of q");
};

template <class S>
struct Shared {
  uint4 q[tile_rows][S::qk / 8];  // swizzled, as k and v; then o
  uint4 k[S::keys][S::qk / 8];
  uint4 v[S::keys][S::vo / 8];
  PackedItem item;
  Range seen[tile_rows];  // the keys of the item that each row sees
  std::int32_t next;      // work
  struct OfWarp {
    RoundSlots<typename S::Element> slots;
    SeenTiles tiles;
  } warps[S::warps];
};

// A warp's rows: their softmax, and o as C fragments. Of a C fragment a lane holds two neighbours of row lane / 4, then two
// of row lane / 4 + 8 (core/fragment_map.hpp).
template <class S>
struct WarpRows {
  float m[S::row_tiles][2], d[S::row_tiles][2] = {};  // d: of this lane's keys only, until the end
  float o[S::row_tiles][S::vo / 8][4] = {};
  std::uint32_t q[S::keeps_query ? S::qk / 16 : 1][S::row_tiles][4];  // A fragments

  __device__ WarpRows() {
    for (auto& rows_m : m) rows_m[0] = rows_m[1] = SoftmaxState<float>::nothing;
  }

  __device__ void load_query(const Shared<S>& shared, int step, std::uint32_t (&a)[S::row_tiles][4]) const {
    const int lane = threadIdx.x % 32;
    const SwizzledRow row(shared.q, threadIdx.x / 32 * S::warp_rows + lane % 16, lane / 16);
#pragma unroll
    for (int r = 0; r < S::row_tiles; ++r) ldmatrix_x4(a[r], row.at(step, r * 16));
  }
  __device__ void keep_query(const Shared<S>& shared) {
    if constexpr (S::keeps_query) {
#pragma unroll
      for (int i = 0; i < S::qk / 16; ++i) load_query(shared, i, q[i]);
    }
  }

  // s = Q K^T. A fragment of K serves all of the warp's rows.
  __device__ void scores(const Shared<S>& shared, float (&s)[S::row_tiles][S::keys / 8][4]) {
    const int lane = threadIdx.x % 32;
    const SwizzledRow k(shared.k, lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int i = 0; i < S::qk / 16; ++i) {
      auto& a = q[S::keeps_query ? i : 0];
      if constexpr (!S::keeps_query) load_query(shared, i, a);
#pragma unroll
      for (int n = 0; n < S::keys / 16; ++n) {
        std::uint32_t b[4];
        ldmatrix_x4(b, k.at(i, n * 16));
#pragma unroll
        for (int r = 0; r < S::row_tiles; ++r) mma_16x16x16<typename S::Element>(s[r][2 * n], s[r][2 * n + 1], a[r], b);
      }
    }
  }

  // s becomes P, not normalised; o is rescaled to the new maximum. A logit is scale * s.
  __device__ void softmax(float (&s)[S::row_tiles][S::keys / 8][4], float scale) {
#pragma unroll
    for (int i = 0; i < 2 * S::row_tiles; ++i) {
      const int r = i / 2, h = i % 2;
      float most = SoftmaxState<float>::nothing;
#pragma unroll
      for (const auto& at : s[r]) most = fmaxf(most, fmaxf(at[2 * h], at[2 * h + 1]));
      most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 1));  // lanes 4 n .. 4 n + 3 share a row
      most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 2));
      most = fmaxf(m[r][h], most * scale);
      // A row that has seen nothing yet: -inf - -inf would be NaN.
      const float base = most == SoftmaxState<float>::nothing ? 0 : most, rescale = exp2_approx(m[r][h] - base);
      m[r][h] = most;
      float sum = 0;
#pragma unroll
      for (auto& at : s[r]) {
        at[2 * h] = exp2_approx(fmaf(at[2 * h], scale, -base));
        at[2 * h + 1] = exp2_approx(fmaf(at[2 * h + 1], scale, -base));
        sum += at[2 * h] + at[2 * h + 1];
      }
      d[r][h] = d[r][h] * rescale + sum;
#pragma unroll
      for (auto& at : o[r]) at[2 * h] *= rescale, at[2 * h + 1] *= rescale;
    }
  }

  // o += P V. Two C fragments of P side by side are an A fragment.
  __device__ void weigh_values(const Shared<S>& shared, const float (&p)[S::row_tiles][S::keys / 8][4]) {
    const int lane = threadIdx.x % 32;
    const SwizzledRow v(shared.v, lane % 16, lane / 16);
#pragma unroll
    for (int i = 0; i < S::keys / 16; ++i) {
      std::uint32_t a[S::row_tiles][4], b[4];
#pragma unroll
      for (int r = 0; r < S::row_tiles; ++r) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const float* at = &p[r][2 * i + c / 2][c % 2 * 2];
          a[r][c] = pack<typename S::Element>(at[0], at[1]);
        }
      }
#pragma unroll
      for (int n = 0; n < S::vo / 16; ++n) {
        ldmatrix_x4_trans(b, v.at(n, i * 16));
#pragma unroll
        for (int r = 0; r < S::row_tiles; ++r) mma_16x16x16<typename S::Element>(o[r][2 * n], o[r][2 * n + 1], a[r], b);
      }
    }
  }
};

// Starts the copy of the item's rows of q, those behind the last as zeros, and finds out which keys the rows see.
template <class S>
__device__ void begin_rows(Shared<S>& shared, const QueryRows& rows, const KeyRules& rules, PackedRows place) {
  const PackedItem& item = shared.item;
  const int chunk = threadIdx.x % 8;
  for (int row = threadIdx.x / 8; row < tile_rows; row += S::threads / 8) {
    const bool exists = row < item.rows.size();
    const RowPlace at = place(item, exists ? row : 0);
    const auto* from = static_cast<const typename S::Element*>(rows.q) + rows.q_offset(at) + chunk * 8;
    for (int c = 0; c < S::qk / 8; c += 8) cp_async_16(&shared.q[row][c + swizzled(row, chunk)], from + c * 8, exists);
    if (chunk == 0) shared.seen[row] = exists ? row_keys(rules, item, at.query - item.query) : Range{};
  }
}

// A warp without rows only copies.
template <class S>
__device__ SeenTiles warp_tiles(const KeyRules& rules, const PackedItem& item, PackedRows place) {
  const int first = threadIdx.x / 32 * S::warp_rows, last = min(first + S::warp_rows, item.rows.size()) - 1;
  if (last < first) return {};
  const auto query = [&](int row) { return place(item, row).query - item.query; };
  return seen_tiles(rules, item, query(first), query(last), S::keys);
}

template <class S>
__global__ void __launch_bounds__(S::threads, S::ctas_per_sm)
prefill_p5_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ KvPages kv,
                  const __grid_constant__ typename S::Variant::Params params, const __grid_constant__ KeyRules rules,
                  const __grid_constant__ PackedParams plan) {
  const typename S::Variant variant{params};
  const PackedRows place{plan.pack};
  extern __shared__ __align__(128) unsigned char bytes[];
  Shared<S>& shared = *reinterpret_cast<Shared<S>*>(bytes);
  typename Shared<S>::OfWarp& warp = shared.warps[threadIdx.x / 32];
  if (threadIdx.x == 0) shared.next = claim(plan);
  while (true) {
    __syncthreads();  // nobody needs the last item any more, nor its rows and tiles
    if (threadIdx.x == 0) {
      shared.item = shared.next < plan.view.header->num_work ? work_of(plan, rows.group_size, shared.next) : PackedItem{};
    }
    __syncthreads();  // the item is in shared memory
    const PackedItem& item = shared.item;
    if (item.rows.empty()) return;

    const std::int32_t tiles = div_up(item.keys.size(), S::keys);
    TileCopies<S> copies(kv, item, warp.slots);
    begin_rows(shared, rows, rules, place);
    copies.know(0, copies.ask(0));
    if (tiles > 0) copies.copy_k(0, shared.k);
    cp_async_commit();
    if (threadIdx.x == 0) shared.next = claim(plan);
    if (threadIdx.x % 32 == 0) warp.tiles = warp_tiles<S>(rules, item, place);
    const RowLogits<S> logits(variant, item, place);
    WarpRows<S> mine;
    cp_async_wait<0>();
    __syncthreads();  // q has arrived, what other threads copied of it too; the warps know their tiles
    mine.keep_query(shared);
    const auto begin_tile = [&](std::int32_t tile) {
      cp_async_wait<0>();
      __syncthreads();  // K of this tile has arrived; all warps are done with V of the last one
      copies.copy_v(tile, shared.v);
      cp_async_commit();
    };
    const auto have_scores = [&](std::int32_t tile) {
      cp_async_wait<0>();
      __syncthreads();  // V has arrived; all warps are done with K
      if (tile + 1 < tiles) copies.copy_k(tile + 1, shared.k);
      cp_async_commit();
    };
    // All warps go through all tiles, since they copy and meet together; one without rows that see a tile computes nothing.
    for (std::int32_t tile = 0; tile < tiles; ++tile) {
      const bool sees_some = __any_sync(all_lanes, warp.tiles.some.contains(tile));
      begin_tile(tile);
      float s[S::row_tiles][S::keys / 8][4] = {};
      if (sees_some) mine.scores(shared, s);
      have_scores(tile);
      if (sees_some) {
        const std::int32_t first_key = item.keys.begin + tile * S::keys;
        float scale = 1;
        if constexpr (std::is_same_v<typename S::Variant, Scaled>) {
          scale = params.scale;  // into the exponent, with one fmaf
        } else {
          transform(variant, logits, first_key, s);
        }
        const bool inner = warp.tiles.all.contains(tile) && shows_tile(variant, logits, shared.seen, first_key);
        if (__any_sync(all_lanes, !inner)) {
          mask(variant, logits, shared.seen, first_key, s);
        }
        mine.softmax(s, scale);
      }
      const KvSlot slot = copies.ask(tile + 2);  // under way while P V is computed
      if (sees_some) mine.weigh_values(shared, s);
      copies.know(tile + 2, slot);
    }
    write_rows(shared.q, mine, variant, logits, rows, plan, item);
  }
}

}  // namespace

RungGrid grid(const AttentionParams& p) { return {tile_rows, row_tiles_of(p.head_dim_vo, Scaled::takes(p))}; }

void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream) {
  require_16_bytes(call);
  require(capacity.query_tile <= tile_rows, "plan.query_tile", capacity.query_tile, "is more than this kernel's tile has");
  const PackedParams plan = packed_params(capacity, packed, partials, call.params.head_dim_vo);
  with_p5_instance(call, [&]<class Element, int qk, int vo, class Variant>() {
    using S = Shape<Element, qk, vo, Variant>;
    const LaunchShape shape{.grid = capacity.num_ctas, .block = S::threads, .shared_bytes = sizeof(Shared<S>)};
    launch(prefill_p5_kernel<S>, shape, stream, call.rows, call.kv, Variant::params(call), key_rules(call.params), plan);
  });
  merge_partials(call, capacity, plan, stream);
}

}  // namespace flashladder::gpu::p5
