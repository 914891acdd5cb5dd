// D5, tensor cores with the operands swapped: tokens are M, the group's heads N. Must equal D4 (P is rounded to 16 bits).
// grid   items of the plan, then merges * rows    block  128 threads    shared memory  stages * 32 KB (head_dim 128), a ring
// New: one mma.m16n8k16 does for 16 tokens and 8 heads what took 2048 multiply-adds, so that a group of up to 16 should cost
// what one head does: reading memory (timed: 4 and 8). The arithmetic of a tile is in head_tiles.cuh; here is the pipeline.
// Leaves out: CTAs do not share the work evenly to the last tile, and the merge is a second launch.
#include "gpu/decode/decode.hpp"
#include "gpu/decode/head_tiles.cuh"
#include "gpu/attention/instances.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/launch.hpp"
#include "gpu/attention/merge_partials.hpp"

namespace flashladder::gpu::d5 {
namespace {

constexpr int warps = tile_warps, round = 32;  // tokens that one TokenSlots serves: two tiles
template <int head_dim>
constexpr int stages = head_dim == 64 ? 4 : head_dim == 128 ? 3 : 2;  // 64, 96, 128 KB: what a block of sm_80 may have, too

template <class S, class Score>
__global__ void __launch_bounds__(warps * 32, blocks_per_sm(S::head_dim))
kernel(const __grid_constant__ DecodeParams p, const __grid_constant__ PlannedParams plan) {
  using Element = typename S::Element;
  const WorkItem item = plan.items[blockIdx.x];
  const std::int32_t rows = item.rows.size(), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t row = std::int64_t{item.request} * p.num_qo_heads + item.head * p.group_size() + item.rows.begin;
  const auto* k = static_cast<const Element*>(p.k);
  const auto* v = static_cast<const Element*>(p.v);
  extern __shared__ __align__(128) unsigned char shared[];
  Ring<S>& ring = reinterpret_cast<Ring<S>*>(shared)[warp];

  // The warps take the item's tokens in turns of one round: two tiles.
  const std::int32_t first = item.keys.begin + warp * round, keys = item.keys.end;
  const std::int32_t tiles = (first < keys ? div_up(keys - first, warps * round) : 0) * (round / tile_tokens);
  const std::int32_t first_page = p.table.indptr[item.request];
  const auto slots_of_round = [&](std::int32_t n) {
    return TokenSlots(p, first_page, item.head, first + n * warps * round + lane, keys);
  };
  TokenSlots slots = slots_of_round(0), next = slots_of_round(1);
  const auto copy = [&](std::int32_t step) {  // in order: step 0, 1, 2 ...
    if (step > 0 && step % 2 == 0) {
      slots = next;
      next = slots_of_round(step / 2 + 1);
    }
    ring.copy(step % S::stages, k, v, slots, step % 2 * tile_tokens);
  };
  for (int step = 0; step < S::stages - 1; ++step) {
    if (step < tiles) copy(step);
    cp_async_commit();  // also an empty group: the count of groups says what has arrived
  }

  const QueryTiles<S> q(static_cast<const Element*>(p.q) + row * S::head_dim, rows);
  const Score score(p);
  HeadTiles<S> heads;
  for (std::int32_t step = 0; step < tiles; ++step) {
    if (step + S::stages - 1 < tiles) copy(step + S::stages - 1);
    cp_async_commit();
    cp_async_wait<S::stages - 1>();
    __syncwarp();  // this tile's bytes have arrived, those that other lanes copied too
    const std::int32_t token = first + step / 2 * warps * round + step % 2 * tile_tokens + lane / 4;
    const bool seen[2] = {token < keys, token + 8 < keys};
    heads.absorb(ring.k[step % S::stages], ring.v[step % S::stages], q, seen, score);
    __syncwarp();  // every lane has read this tile: the next copy may overwrite it
  }

  cp_async_wait<0>();  // no copy into a ring is under way any more: the first one becomes the place of the partials
  auto& partials = *reinterpret_cast<TilePartials<S>*>(shared);
  static_assert(sizeof partials <= warps * sizeof(Ring<S>), "the partials must fit where the rings were");
  write_rows(heads, partials, rows, [&](int r, int feature, SoftmaxState<float> state, float4 value) {
    if (item.whole()) {
      write_output(p, row + r, S::head_dim, feature, state, value);
    } else {
      write_partial(plan.partial_o, plan.partial_lse_log2, item.partial_slot + r, S::head_dim, feature, state, value);
    }
  });
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
        return launch_items<TileShape<Element, head_dim, 2, stages<head_dim>>, Score>(call, plan, planned, stream);
    }
    return launch_items<TileShape<Element, head_dim, 1, stages<head_dim>>, Score>(call, plan, planned, stream);
  });
  merge_partials(call, planned, plan.num_merges, plan.query_tile, stream);
}

}  // namespace flashladder::gpu::d5
