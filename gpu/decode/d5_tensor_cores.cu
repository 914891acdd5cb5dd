// D5, tensor cores with the operands swapped: tokens are M, the group's heads N. Must equal D4 (P is rounded to 16 bits).
// grid   items of the plan, then merges * rows    block  128 threads    shared memory  stages * 32 KB (head_dim 128), a ring
// New: one mma.m16n8k16 does for 16 tokens and 8 heads what took 2048 multiply-adds, so that a group of up to 16 should cost
// what one head does: reading memory (timed: 4 and 8). S^T = K Q^T and O^T += V^T P^T: K and V come from the ring by
// ldmatrix (V transposed on the way), Q stays in registers, P^T turns from accumulator into operand by movmatrix. In both
// accumulators a lane's columns are the same two heads, so that the softmax's rescale needs no exchange.
// Leaves out: CTAs do not share the work evenly to the last tile, and the merge is a second launch.
#include "gpu/decode/decode.hpp"
#include "gpu/decode/instances.cuh"
#include "gpu/decode/lane_group.cuh"
#include "gpu/decode/token_slots.cuh"
#include "gpu/decode/write_row.cuh"
#include "gpu/launch.hpp"
#include "gpu/merge/merge_partials.hpp"
#include "gpu/ptx/cp_async.cuh"
#include "gpu/ptx/mma.cuh"

namespace flashladder::gpu::d5 {
namespace {

constexpr int warps = 4, tile = 16, heads_in_tile = 8;

template <class Element_, int head_dim_, int head_tiles_>
struct Shape {
  using Element = Element_;
  static constexpr int head_dim = head_dim_, head_tiles = head_tiles_, rows = head_tiles * heads_in_tile;
  static constexpr int chunks = head_dim / 8;  // of 16 bytes, of a token
  static constexpr int steps = head_dim / 16;  // mma steps along head_dim
  static constexpr int stages = head_dim == 64 ? 4 : head_dim == 128 ? 3 : 2;
};

// Shared memory of one warp. Chunk c of token t lies at c ^ t % 8, so that ldmatrix meets eight different bank groups
// (core/swizzle.hpp, applied to each 128 bytes of a row).
template <class S>
struct Ring {
  uint4 k[S::stages][tile][S::chunks], v[S::stages][tile][S::chunks];
};

// What a warp holds of its heads: softmax states of the lane's two columns in each head tile, and O^T.
template <class S>
struct HeadTiles {
  float m[S::head_tiles][2], d[S::head_tiles][2] = {};  // d: of this lane's tokens only, until the end
  float o[S::steps][S::head_tiles][4] = {};             // C fragments: 16 features x 8 heads each

  __device__ HeadTiles() {
    for (auto& tile_m : m) tile_m[0] = tile_m[1] = SoftmaxState<float>::nothing;
  }

  // logits: C fragments of S^T, 16 tokens x 8 heads. They become P^T as B fragments; o is rescaled to the new maximum.
  template <class Score>
  __device__ void softmax(float (&s)[S::head_tiles][4], const bool (&seen)[2], const Score& score,
                          std::uint32_t (&p)[S::head_tiles][2]) {
#pragma unroll
    for (int n = 0; n < S::head_tiles; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float& upper = s[n][j];
        float& lower = s[n][j + 2];
        upper = seen[0] ? score(upper) : SoftmaxState<float>::nothing;
        lower = seen[1] ? score(lower) : SoftmaxState<float>::nothing;
        float most = fmaxf(m[n][j], fmaxf(upper, lower));
#pragma unroll
        for (int offset = 4; offset < 32; offset *= 2) most = fmaxf(most, __shfl_xor_sync(all_lanes, most, offset));
        const float rescale = SoftmaxState<float>::weight(m[n][j], most);
        m[n][j] = most;
        upper = SoftmaxState<float>::weight(upper, most);
        lower = SoftmaxState<float>::weight(lower, most);
        d[n][j] = d[n][j] * rescale + upper + lower;
#pragma unroll
        for (int i = 0; i < S::steps; ++i) o[i][n][j] *= rescale, o[i][n][j + 2] *= rescale;
      }
      p[n][0] = movmatrix_trans(pack<typename S::Element>(s[n][0], s[n][1]));
      p[n][1] = movmatrix_trans(pack<typename S::Element>(s[n][2], s[n][3]));
    }
  }

  __device__ void put(WarpPartials<S::head_dim, S::rows, warps>& partials) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = lane / 4, col = lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < S::head_tiles; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int head = n * heads_in_tile + col + j;
#pragma unroll
        for (int offset = 4; offset < 32; offset *= 2) d[n][j] += __shfl_xor_sync(all_lanes, d[n][j], offset);
        if (row == 0) partials.m[warp][head] = m[n][j], partials.d[warp][head] = d[n][j];
#pragma unroll
        for (int i = 0; i < S::steps; ++i) {
          partials.o[warp][head][i * 16 + row] = o[i][n][j];
          partials.o[warp][head][i * 16 + row + 8] = o[i][n][j + 2];
        }
      }
    }
  }
};

template <class S, class Score>
__global__ void __launch_bounds__(warps * 32, blocks_per_sm(S::head_dim))
kernel(const __grid_constant__ DecodeParams p, const __grid_constant__ PlannedParams plan) {
  using Element = typename S::Element;
  constexpr int round = 32, tokens_of_copy = 32 / S::chunks;  // tokens that one TokenSlots serves; that one copy brings
  const WorkItem item = plan.items[blockIdx.x];
  const std::int32_t rows = item.rows.size(), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t row = std::int64_t{item.request} * p.num_qo_heads + item.kv_head * p.group_size() + item.rows.begin;
  const std::int32_t chunk = lane % S::chunks, token_of_lane = lane / S::chunks;  // what this lane copies
  const auto* k = static_cast<const Element*>(p.k) + chunk * 8;
  const auto* v = static_cast<const Element*>(p.v) + chunk * 8;
  extern __shared__ __align__(128) unsigned char shared[];
  Ring<S>& ring = reinterpret_cast<Ring<S>*>(shared)[warp];

  // The warps take the item's tokens in turns of one round: two tiles.
  const std::int32_t first = item.keys.begin + warp * round, keys = item.keys.end;
  const auto token_of_round = [&](std::int32_t n) { return first + n * warps * round + lane; };
  const std::int32_t tiles = (first < keys ? div_up(keys - first, warps * round) : 0) * (round / tile);
  TokenSlots slots(p, item, token_of_round(0)), next(p, item, token_of_round(1));
  const auto copy = [&](std::int32_t step) {  // in order: step 0, 1, 2 ...
    if (step > 0 && step % 2 == 0) {
      slots = next;
      next = TokenSlots(p, item, token_of_round(step / 2 + 1));
    }
#pragma unroll
    for (int u = 0; u < tile; u += tokens_of_copy) {
      const int token = u + token_of_lane, from = step % 2 * tile + token;  // the lane that knows
      const std::int64_t k_at = __shfl_sync(all_lanes, slots.k, from), v_at = __shfl_sync(all_lanes, slots.v, from);
      const bool seen = __shfl_sync(all_lanes, slots.seen, from);
      cp_async_16(&ring.k[step % S::stages][token][chunk ^ token % 8], k + k_at, seen);
      cp_async_16(&ring.v[step % S::stages][token][chunk ^ token % 8], v + v_at, seen);
    }
  };
  for (int step = 0; step < S::stages - 1; ++step) {
    if (step < tiles) copy(step);
    cp_async_commit();  // also an empty group: the count of groups says what has arrived
  }

  // Q^T as B fragments: features lane % 4 * 2 + {0, 1} (+ 8) of head lane / 4. Heads beyond the item's rows are 0.
  std::uint32_t q[S::steps][S::head_tiles][2];
#pragma unroll
  for (int n = 0; n < S::head_tiles; ++n) {
    const int head = n * heads_in_tile + lane / 4;
    const Element* from = static_cast<const Element*>(p.q) + (row + head) * S::head_dim + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < S::steps * 2; ++i) {
      q[i / 2][n][i % 2] = head < rows ? *reinterpret_cast<const std::uint32_t*>(from + i * 8) : 0;
    }
  }

  const Score score(p);
  HeadTiles<S> heads;
  for (std::int32_t step = 0; step < tiles; ++step) {
    if (step + S::stages - 1 < tiles) copy(step + S::stages - 1);
    cp_async_commit();
    cp_async_wait<S::stages - 1>();
    __syncwarp();  // this tile's bytes have arrived, those that other lanes copied too
    const auto& k_tile = ring.k[step % S::stages];
    const auto& v_tile = ring.v[step % S::stages];
    std::uint32_t a[4];

    // Four sums, joined in f32: tensor cores cut off where f32 would round, so that one chain of steps drifts downwards.
    float sum[4][S::head_tiles][4] = {}, s[S::head_tiles][4];
#pragma unroll
    for (int i = 0; i < S::steps; ++i) {  // blocks of A: tokens 0-7, 8-15, then the same of the next 8 features
      ldmatrix_x4(a, &k_tile[lane % 16][(2 * i + lane / 16) ^ lane % 8]);
#pragma unroll
      for (int n = 0; n < S::head_tiles; ++n) mma_16x8x16<Element>(sum[i % 4][n], a, q[i][n]);
    }
#pragma unroll
    for (int n = 0; n < S::head_tiles; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) s[n][c] = (sum[0][n][c] + sum[1][n][c]) + (sum[2][n][c] + sum[3][n][c]);
    }
    const std::int32_t token = first + step / 2 * warps * round + step % 2 * tile + lane / 4;
    const bool seen[2] = {token < keys, token + 8 < keys};
    std::uint32_t weights[S::head_tiles][2];
    heads.softmax(s, seen, score, weights);
#pragma unroll
    for (int i = 0; i < S::steps; ++i) {  // blocks of A: features 0-7, 8-15 of tokens 0-7, then of tokens 8-15
      ldmatrix_x4_trans(a, &v_tile[lane % 8 + lane / 16 * 8][(2 * i + lane / 8 % 2) ^ lane % 8]);
#pragma unroll
      for (int n = 0; n < S::head_tiles; ++n) mma_16x8x16<Element>(heads.o[i][n], a, weights[n]);
    }
    __syncwarp();  // every lane has read this tile: the next copy may overwrite it
  }

  cp_async_wait<0>();
  __syncthreads();  // no warp needs its ring any more, no copy into it is under way: it becomes the place of the partials
  auto& partials = *reinterpret_cast<WarpPartials<S::head_dim, S::rows, warps>*>(shared);
  static_assert(sizeof partials <= warps * sizeof(Ring<S>), "the partials must fit where the rings were");
  heads.put(partials);
  __syncthreads();  // every warp's partial is there
  for (int at = threadIdx.x; at < rows * S::head_dim; at += warps * 32) {
    const int r = at / S::head_dim, i = at % S::head_dim;
    float value;
    const SoftmaxState<float> state = partials.take(r, i, value);
    if (item.whole()) {
      write_output(p, row + r, S::head_dim, i, state, value);
    } else {
      write_partial(plan, item.partial_slot + r, S::head_dim, i, state, value);
    }
  }
}

template <class S, class Score>
void launch_items(const DecodeCall& call, const DevicePlan& plan, const PlannedParams& planned, cudaStream_t stream) {
  const auto run = kernel<S, Score>;
  launch(run, {.grid = plan.num_items, .block = warps * 32, .shared_bytes = warps * sizeof(Ring<S>)}, stream, call.params,
         planned);
}

}  // namespace

void attend(const DecodeCall& call, const DevicePlan& plan, void* workspace, cudaStream_t stream) {
  const PlannedParams planned = planned_params(plan.items(), plan.merges(), plan.partial_rows, call.head_dim, workspace);
  with_instance(call, [&]<class Element, int head_dim, class Score>() {
    if constexpr (most_rows(head_dim) > heads_in_tile) {
      if (plan.query_tile > heads_in_tile)
        return launch_items<Shape<Element, head_dim, 2>, Score>(call, plan, planned, stream);
    }
    return launch_items<Shape<Element, head_dim, 1>, Score>(call, plan, planned, stream);
  });
  merge_partials(call, planned, plan.num_merges, plan.query_tile, stream);
}

}  // namespace flashladder::gpu::d5
