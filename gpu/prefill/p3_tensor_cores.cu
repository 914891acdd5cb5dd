// P3, tensor cores; scores never leave the registers. Must equal P2 (P is rounded to 16 bits).
// grid   the GPU's CTAs, which claim work, then rows of merges      block  128 threads, 16 rows a warp
// shared memory   tiles of 64 keys of K and of V, 16 KB each
// New: mma.m16n8k16 for Q K^T and P V. A warp has 16 rows of q, as left operands in registers, and computes their scores
// with all keys of a tile. Two neighbours of the accumulator of Q K^T, rounded to 16 bits, are a left operand of P V as they
// stand (core/fragment_map.hpp), and a row lies in four neighbouring lanes: so that softmax needs two shuffles, and no
// shared memory and no barrier between the two products (FlashAttention-2, arXiv:2307.08691, section 3.3).
// Leaves out: how right operands come into registers. Eight lanes that read eight keys of K meet one bank, and of V, which
// lies the wrong way round, each element is a load of its own. While tiles arrive nothing is computed.
#include "gpu/attention/merge_partials.hpp"
#include "gpu/attention/packed_work.cuh"
#include "gpu/attention/token_slots.cuh"
#include "gpu/launch.hpp"
#include "gpu/prefill/instances.cuh"
#include "gpu/prefill/item_rows.cuh"
#include "gpu/prefill/prefill.hpp"
#include "gpu/prefill/row_keys.cuh"
#include "gpu/ptx/ex2.cuh"
#include "gpu/ptx/mma.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu::p3 {
namespace {

constexpr int tile_rows = lower_prefill_grid.query_tile, tile_keys = 64, head_dim = 128, chunks = head_dim / 8;
constexpr int warp_rows = 16, threads = tile_rows / warp_rows * 32;

struct Shared {
  uint4 k[tile_keys][chunks], v[tile_keys][chunks];
};

// The tile of keys that begins with first_key, those behind the item's last as zeros: an unused slot may hold NaN. Eight
// threads share a row. Unsigned: a token behind the last of 2^31 - 1 must not wrap.
template <class Element>
__device__ void load_tile(Shared& shared, const KvPages& kv, const PackedItem& item, std::uint32_t first_key) {
  for (int row = threadIdx.x / 8; row < tile_keys; row += threads / 8) {
    const TokenSlots at(kv, item.first_page, item.kv_head, first_key + row, item.keys.end);
    const auto* k = reinterpret_cast<const uint4*>(static_cast<const Element*>(kv.k) + at.k);
    const auto* v = reinterpret_cast<const uint4*>(static_cast<const Element*>(kv.v) + at.v);
    for (int c = threadIdx.x % 8; c < chunks; c += 8) {
      shared.k[row][c] = at.seen ? k[c] : uint4{};
      shared.v[row][c] = at.seen ? v[c] : uint4{};
    }
  }
}

// Row lane / 4 + 8 * half of the warp's: a number of the item's rows, of which those behind the last stand for the last.
// Their results go nowhere.
__device__ int lane_row(int half) { return threadIdx.x / 32 * warp_rows + half * 8 + threadIdx.x % 32 / 4; }
__device__ RowPlace lane_place(const PackedItem& item, PackedRows place, int half) {
  return place(item, min(lane_row(half), item.rows.size() - 1));
}

// A warp's rows: q as A fragments, their softmax, and o as C fragments. Of a C fragment a lane holds two neighbours of row
// lane / 4, then two of row lane / 4 + 8.
template <class Element>
struct WarpRows {
  std::uint32_t q[head_dim / 16][4];
  float m[2], d[2] = {};  // d: of this lane's keys only, until the end
  float o[head_dim / 8][4] = {};

  __device__ WarpRows(const QueryRows& rows, const PackedItem& item, PackedRows place) {
    m[0] = m[1] = SoftmaxState<float>::nothing;
#pragma unroll
    for (int c = 0; c < 4; ++c) {  // blocks: features 0-7 of rows 0-7, of rows 8-15, then features 8-15
      const auto* from = static_cast<const Element*>(rows.q) + rows.q_offset(lane_place(item, place, c % 2));
#pragma unroll
      for (int i = 0; i < head_dim / 16; ++i) {
        q[i][c] = *reinterpret_cast<const std::uint32_t*>(from + i * 16 + c / 2 * 8 + threadIdx.x % 4 * 2);
      }
    }
  }

  // s = Q K^T: 16 rows, eight keys a C fragment.
  __device__ void scores(const Shared& shared, float (&s)[tile_keys / 8][4]) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < tile_keys / 8; ++n) {
      // A lane's part of B is two neighbouring features of one key, twice.
      const auto* k = reinterpret_cast<const std::uint32_t*>(shared.k[n * 8 + lane / 4]) + lane % 4;
#pragma unroll
      for (int i = 0; i < head_dim / 16; ++i) mma_16x8x16<Element>(s[n], q[i], {k[i * 8], k[i * 8 + 4]});
    }
  }

  // s becomes P, not normalised; o is rescaled to the new maximum. A logit is scale * s.
  __device__ void softmax(float (&s)[tile_keys / 8][4], float scale) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float most = SoftmaxState<float>::nothing;
#pragma unroll
      for (const auto& at : s) most = fmaxf(most, fmaxf(at[2 * h], at[2 * h + 1]));
      most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 1));  // lanes 4 n .. 4 n + 3 share a row
      most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 2));
      most = fmaxf(m[h], most * scale);
      // A row that has seen nothing yet: -inf - -inf would be NaN.
      const float base = most == SoftmaxState<float>::nothing ? 0 : most, rescale = exp2_approx(m[h] - base);
      m[h] = most;
      float sum = 0;
#pragma unroll
      for (auto& at : s) {
        at[2 * h] = exp2_approx(fmaf(at[2 * h], scale, -base));
        at[2 * h + 1] = exp2_approx(fmaf(at[2 * h + 1], scale, -base));
        sum += at[2 * h] + at[2 * h + 1];
      }
      d[h] = d[h] * rescale + sum;
#pragma unroll
      for (auto& at : o) at[2 * h] *= rescale, at[2 * h + 1] *= rescale;
    }
  }

  // o += P V. Two C fragments of P side by side are an A fragment.
  __device__ void weigh_values(const Shared& shared, const float (&p)[tile_keys / 8][4]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < tile_keys / 16; ++i) {
      std::uint32_t a[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) a[c] = pack<Element>(p[2 * i + c / 2][c % 2 * 2], p[2 * i + c / 2][c % 2 * 2 + 1]);
      // A lane's part of B is one feature of two neighbouring keys, twice.
      const auto* v = reinterpret_cast<const std::uint16_t*>(shared.v[i * 16 + lane % 4 * 2]) + lane / 4;
#pragma unroll
      for (int n = 0; n < head_dim / 8; ++n) {
        const auto pair = [&](int key) {
          return std::uint32_t{v[key * head_dim + n * 8]} | std::uint32_t{v[(key + 1) * head_dim + n * 8]} << 16;
        };
        mma_16x8x16<Element>(o[n], a, {pair(0), pair(8)});
      }
    }
  }
};

// A score that a row does not see becomes -inf, by selection, since it may be NaN.
__device__ void mask(const Range (&seen)[2], std::int32_t first_key, float (&s)[tile_keys / 8][4]) {
#pragma unroll
  for (int n = 0; n < tile_keys / 8; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const std::int32_t key = first_key + n * 8 + threadIdx.x % 4 * 2 + c % 2;
      s[n][c] = seen[c / 2].contains(key) ? s[n][c] : SoftmaxState<float>::nothing;
    }
  }
}

template <class Element>
__device__ void write_rows(WarpRows<Element>& mine, const QueryRows& rows, const PackedParams& plan, const PackedItem& item,
                           PackedRows place) {
  const int lane = threadIdx.x % 4;  // of the row's four
  const auto finish = [&](int h, float d) {
    d += __shfl_xor_sync(all_lanes, d, 1);
    d += __shfl_xor_sync(all_lanes, d, 2);
    if (lane_row(h) >= item.rows.size()) return 0.0f;
    return finish_item_row(rows, plan, item, lane_place(item, place, h), lane_row(h), lane, {mine.m[h], d});
  };
  const float scale[2] = {finish(0, mine.d[0]), finish(1, mine.d[1])};
#pragma unroll
  for (int n = 0; n < head_dim / 8; ++n) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float2 value{mine.o[n][2 * h] * scale[h], mine.o[n][2 * h + 1] * scale[h]};
      if (lane_row(h) >= item.rows.size()) continue;
      store_item_row(rows, plan, item, lane_place(item, place, h), lane_row(h), head_dim, n * 8 + lane * 2, value);
    }
  }
}

template <class Element>
__global__ void __launch_bounds__(threads, lower_prefill_grid.ctas_per_sm)
prefill_p3_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ KvPages kv,
                  const __grid_constant__ Scaled::Params params, const __grid_constant__ KeyRules rules,
                  const __grid_constant__ PackedParams plan) {
  const PackedRows place{plan.pack};
  extern __shared__ __align__(128) unsigned char bytes[];
  Shared& shared = *reinterpret_cast<Shared*>(bytes);
  __shared__ std::int32_t claimed;
  while (true) {
    if (threadIdx.x == 0) claimed = claim(plan);
    __syncthreads();  // the claim is in shared memory
    const std::int32_t work = claimed;
    __syncthreads();  // every thread has read it: the next claim may overwrite it
    if (work >= plan.view.header->num_work) return;
    const PackedItem item = work_of(plan, rows.group_size, work);
    WarpRows<Element> mine(rows, item, place);
    Range seen[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) seen[h] = row_keys(rules, item, lane_place(item, place, h).query - item.query);
    for (std::uint32_t key = item.keys.begin; key < static_cast<std::uint32_t>(item.keys.end); key += tile_keys) {
      __syncthreads();  // all warps are done with the last tile
      load_tile<Element>(shared, kv, item, key);
      __syncthreads();  // the tile is there
      float s[tile_keys / 8][4] = {};
      mine.scores(shared, s);
      mask(seen, key, s);
      mine.softmax(s, params.scale);
      mine.weigh_values(shared, s);
    }
    write_rows(mine, rows, plan, item, place);
  }
}

}  // namespace

void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream) {
  require_16_bytes(call);
  const PackedParams plan = packed_params(capacity, packed, partials, call.params.head_dim_vo);
  with_lower_prefill_instance(call, capacity.query_tile, [&]<class Element>() {
    const LaunchShape shape{.grid = capacity.num_ctas, .block = threads, .shared_bytes = sizeof(Shared)};
    launch(prefill_p3_kernel<Element>, shape, stream, call.rows, call.kv, Scaled::params(call), key_rules(call.params),
           plan);
  });
  merge_partials(call, capacity, plan, stream);
}

}  // namespace flashladder::gpu::p3
