// D4, a pipeline of asynchronous copies, with the page ids fetched ahead. Must equal D3.
// grid   as D3          block  128 threads          shared memory  stages * 16 KB (head_dim 128), a ring
// New: cp.async brings the tokens of the next stages into shared memory while this stage is computed, so that the bytes in
// flight no longer depend on registers; and the way there, token -> page id -> address, is walked by one lane for each
// token, 32 tokens at a time and a whole round before they are needed, instead of by every lane at the last moment.
// A lane reads back exactly the 16 bytes that it copied, and each warp has a ring of its own: no barrier in the loop.
// Leaves out: CUDA cores do the arithmetic, once for each query head, and their instructions grow with the group.
#include "gpu/attention/merge_partials.hpp"
#include "gpu/attention/packed_work.cuh"
#include "gpu/attention/token_slots.cuh"
#include "gpu/decode/decode.hpp"
#include "gpu/decode/instances.cuh"
#include "gpu/decode/lane_group.cuh"
#include "gpu/launch.hpp"
#include "gpu/ptx/cp_async.cuh"

namespace flashladder::gpu::d4 {
namespace {

constexpr int stages = 4;
template <class Group>
constexpr int tokens_in_stage = 4 * Group::tokens;  // of a warp: four for each lane group, 2 KB of K and 2 KB of V

// Shared memory of one warp: k[stage][u][lane], v likewise.
struct LaneRing {
  uint4 k[stages][4][32], v[stages][4][32];
};
template <class Group>
constexpr int blocks_per_sm = Group::rows <= 4 ? 3 : 2;  // 64 KB of shared memory each

template <class Group>
__global__ void __launch_bounds__(lane_warps * 32, blocks_per_sm<Group>)
decode_d4_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ KvPages kv,
                 const __grid_constant__ Scaled::Params params, const __grid_constant__ PackedParams plan) {
  using Element = typename Group::Element;
  // One TokenSlots serves a round: 32 tokens of a warp, in round_stages stages.
  constexpr std::uint32_t stage_tokens = tokens_in_stage<Group>, round_stages = 32 / stage_tokens;
  const PackedItem item = work_of(plan, rows.group_size, blockIdx.x);
  const RowPlace first_row = OneQueryRows{plan.pack}(item, 0);
  const std::int32_t height = item.rows.size(), feature = Group::lane() * 8;
  const std::int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const auto* k = static_cast<const Element*>(kv.k) + feature;
  const auto* v = static_cast<const Element*>(kv.v) + feature;
  extern __shared__ __align__(16) unsigned char shared[];
  LaneRing& ring = reinterpret_cast<LaneRing*>(shared)[warp];

  // The warps take the item's tokens in turns of one round. Unsigned: a token behind the last of 2^31 - 1 must not wrap.
  const std::uint32_t first = item.keys.begin + warp * 32, end = item.keys.end;
  const std::uint32_t rounds = first < end ? div_up<std::uint32_t>(end - first, lane_warps * 32) : 0;
  const std::uint32_t steps = rounds * round_stages;
  const auto slots_of_round = [&](std::uint32_t round) {
    return TokenSlots(kv, item.first_page, item.kv_head, first + round * lane_warps * 32 + lane, end);
  };
  TokenSlots slots = slots_of_round(0), next = slots_of_round(1);
  const auto copy = [&](std::uint32_t step) {  // in order: step 0, 1, 2 ...
    if (step > 0 && step % round_stages == 0) {
      slots = next;
      next = slots_of_round(step / round_stages + 1);
    }
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      const int from = step % round_stages * stage_tokens + u * Group::tokens + Group::token();  // the lane that knows
      const std::int64_t k_at = __shfl_sync(all_lanes, slots.k, from), v_at = __shfl_sync(all_lanes, slots.v, from);
      const bool seen = __shfl_sync(all_lanes, slots.seen, from);
      cp_async_16(&ring.k[step % stages][u][lane], k + k_at, seen);
      cp_async_16(&ring.v[step % stages][u][lane], v + v_at, seen);
    }
  };

  for (std::uint32_t step = 0; step < stages - 1; ++step) {
    if (step < steps) copy(step);
    cp_async_commit();  // also an empty group: the count of groups, not of copies, says what has arrived
  }
  Group mine;
  mine.load_query(static_cast<const Element*>(rows.q) + rows.q_offset(first_row) + feature, rows.q_head, height);
  for (std::uint32_t step = 0; step < steps; ++step) {
    // This copy overwrites the stage that the previous step read. No barrier is needed: a lane overwrites only what it has
    // read itself.
    if (step + stages - 1 < steps) copy(step + stages - 1);
    cp_async_commit();
    cp_async_wait<stages - 1>();  // this step's bytes have arrived, for the lane that copied them: itself
    uint4 stage_k[4], stage_v[4];
    bool seen[4];
    const std::uint32_t token =
        first + step / round_stages * lane_warps * 32 + step % round_stages * stage_tokens + Group::token();
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      stage_k[u] = ring.k[step % stages][u][lane];
      stage_v[u] = ring.v[step % stages][u][lane];
      seen[u] = token + u * Group::tokens < end;
    }
    mine.absorb(stage_k, stage_v, seen, [&](float dot) { return dot * params.scale; });
  }
  cp_async_wait<0>();

  __shared__ WarpPartials<Group::head_dim, Group::rows, lane_warps> partials;
  partials.put(mine);
  __syncthreads();  // every warp's partial is there
  partials.write_rows(height, [&](int r, int i, SoftmaxState<float> state, float value) {
    write_item_row<Group::head_dim>(rows, plan, item, r, i, state, value);
  });
}

}  // namespace

void attend(const AttentionCall& call, const PackedShape& shape, std::byte* packed, void* partials, cudaStream_t stream) {
  require_16_bytes(call);
  const PackedParams plan = packed_params(shape, packed, partials, call.params.head_dim_vo);
  with_lower_instance(call, [&]<class Element, int head_dim>() {
    with_rows(shape.query_tile, [&]<int tile_rows>() {
      const LaunchShape launch_shape{.grid = shape.num_work(), .block = lane_warps * 32,
                                     .shared_bytes = lane_warps * sizeof(LaneRing)};
      const auto run = decode_d4_kernel<LaneGroup<Element, head_dim, tile_rows>>;
      launch(run, launch_shape, stream, call.rows, call.kv, Scaled::params(call), plan);
    });
  });
  merge_partials(call, shape, plan, stream);
}

}  // namespace flashladder::gpu::d4
