// D5, tensor cores with the operands swapped: tokens are M, the group's heads N. Must equal D4 (P is rounded to 16 bits).
// grid   the plan's work, then rows of merges    block  128 threads    shared memory  stages * 32 KB (head_dim 128), a ring
// New: one mma.m16n8k16 does for 16 tokens and 8 heads what took 2048 multiply-adds, so that a group of up to 16 should cost
// what one head does: reading memory. The arithmetic of a tile is in head_tiles.cuh; here is the pipeline.
// Leaves out: CTAs do not share the work evenly to the last tile, and the merge is a second launch.
#include "gpu/attention/merge_partials.hpp"
#include "gpu/attention/packed_work.cuh"
#include "gpu/decode/decode.hpp"
#include "gpu/decode/head_tiles.cuh"
#include "gpu/decode/instances.cuh"
#include "gpu/launch.hpp"

namespace flashladder::gpu::d5 {
namespace {

constexpr int warps = tile_warps, round = 32;  // tokens that one TokenSlots serves: two tiles
template <int head_dim>
constexpr int stages = head_dim == 64 ? 4 : 3;  // 64, 96 KB: what a block of sm_80 may have, too

template <class S>
__global__ void __launch_bounds__(warps * 32, grid(S::head_dim).ctas_per_sm)
decode_d5_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ KvPages kv,
                 const __grid_constant__ Scaled::Params params, const __grid_constant__ PackedParams plan) {
  using Element = typename S::Element;
  const PackedItem item = work_of(plan, rows.group_size, blockIdx.x);
  const std::int32_t height = item.rows.size(), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const auto* k = static_cast<const Element*>(kv.k);
  const auto* v = static_cast<const Element*>(kv.v);
  extern __shared__ __align__(128) unsigned char shared[];
  TileRing<S>& ring = reinterpret_cast<TileRing<S>*>(shared)[warp];

  // The warps take the item's tokens in turns of one round: two tiles. Unsigned: a token behind the last of 2^31 - 1 must
  // not wrap.
  const std::uint32_t first = item.keys.begin + warp * round, end = item.keys.end;
  const std::uint32_t tiles = (first < end ? div_up<std::uint32_t>(end - first, warps * round) : 0) * (round / tile_tokens);
  const auto slots_of_round = [&](std::uint32_t n) {
    return TokenSlots(kv, item.first_page, item.kv_head, first + n * warps * round + lane, end);
  };
  TokenSlots slots = slots_of_round(0), next = slots_of_round(1);
  const auto copy = [&](std::uint32_t step) {  // in order: step 0, 1, 2 ...
    if (step > 0 && step % 2 == 0) {
      slots = next;
      next = slots_of_round(step / 2 + 1);
    }
    ring.copy(step % S::stages, k, v, slots, step % 2 * tile_tokens);
  };
  for (std::uint32_t step = 0; step < S::stages - 1; ++step) {
    if (step < tiles) copy(step);
    cp_async_commit();  // also an empty group: the count of groups says what has arrived
  }

  const QueryTiles<S> q(rows, OneQueryRows{plan.pack}, item);
  HeadTiles<S> heads;
  for (std::uint32_t step = 0; step < tiles; ++step) {
    if (step + S::stages - 1 < tiles) copy(step + S::stages - 1);
    cp_async_commit();
    cp_async_wait<S::stages - 1>();
    __syncwarp();  // this tile's bytes have arrived, those that other lanes copied too
    const std::uint32_t token = first + step / 2 * warps * round + step % 2 * tile_tokens + lane / 4;
    const bool seen[2] = {token < end, token + 8 < end};
    heads.absorb(ring.k[step % S::stages], ring.v[step % S::stages], q, seen,
                 [&](float dot, int, int, int) { return dot * params.scale; });
    __syncwarp();  // every lane has read this tile: the next copy may overwrite it
  }

  cp_async_wait<0>();  // no copy into a ring is under way any more: the first one becomes the place of the partials
  auto& partials = *reinterpret_cast<TilePartials<S>*>(shared);
  static_assert(sizeof partials <= warps * sizeof(TileRing<S>), "the partials must fit where the rings were");
  write_rows(heads, partials, height, [&](int r, int feature, SoftmaxState<float> state, float4 value) {
    write_item_row<S::head_dim>(rows, plan, item, r, feature, state, value);
  });
}

}  // namespace

void attend(const AttentionCall& call, const PackedShape& shape, std::byte* packed, void* partials, cudaStream_t stream) {
  require_16_bytes(call);
  const PackedParams plan = packed_params(shape, packed, partials, call.params.head_dim_vo);
  with_d5_instance(call, shape.query_tile, [&]<class Element, int head_dim, int head_tiles>() {
    using S = TileShape<Element, head_dim, head_tiles, stages<head_dim>>;
    const LaunchShape launch_shape{.grid = shape.num_work(), .block = warps * 32,
                                   .shared_bytes = warps * sizeof(TileRing<S>)};
    launch(decode_d5_kernel<S>, launch_shape, stream, call.rows, call.kv, Scaled::params(call), plan);
  });
  merge_partials(call, shape, plan, stream);
}

}  // namespace flashladder::gpu::d5
