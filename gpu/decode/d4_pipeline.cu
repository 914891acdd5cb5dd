// D4, a pipeline of asynchronous copies, with the page ids fetched ahead. Must equal D3.
// grid   as D3          block  128 threads          shared memory  stages * 16 KB (head_dim 128), a ring
// New: cp.async brings the tokens of the next stages into shared memory while this stage is computed, so that the bytes in
// flight no longer depend on registers; and the way there, token -> page id -> address, is walked by one lane for each
// token, 32 tokens at a time and a whole round before they are needed, instead of by every lane at the last moment.
// A lane reads back exactly the 16 bytes that it copied, and each warp has a ring of its own: no barrier in the loop.
// Leaves out: CUDA cores do the arithmetic, once for each query head; beyond a group of 4 that, and not memory, is the
// limit.
#include "gpu/decode/decode.hpp"
#include "gpu/attention/instances.cuh"
#include "gpu/decode/lane_group.cuh"
#include "gpu/attention/token_slots.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/launch.hpp"
#include "gpu/attention/merge_partials.hpp"
#include "gpu/ptx/cp_async.cuh"

namespace flashladder::gpu::d4 {
namespace {

constexpr int warps = 4, stages = 4;
template <class Group>
constexpr int tokens_in_stage = 4 * Group::tokens;  // of a warp: four for each lane group, 2 KB of K and 2 KB of V
template <class Group>
constexpr int blocks_per_sm = Group::rows <= 4 ? 3 : 2;  // 64 KB of shared memory each

// Shared memory of one warp: k[stage][u][lane], v likewise.
struct Ring {
  uint4 k[stages][4][32], v[stages][4][32];
};

template <class Group, class Score>
__global__ void __launch_bounds__(warps * 32, blocks_per_sm<Group>)
kernel(const __grid_constant__ DecodeParams p, const __grid_constant__ PlannedParams plan) {
  using Element = typename Group::Element;
  constexpr int stage_tokens = tokens_in_stage<Group>,
                round_stages = 32 / stage_tokens;  // stages that one TokenSlots serves
  const WorkItem item = plan.items[blockIdx.x];
  const std::int32_t rows = item.rows.size(), feature = Group::lane() * 8, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t row = std::int64_t{item.request} * p.num_qo_heads + item.head * p.group_size() + item.rows.begin;
  const auto* k = static_cast<const Element*>(p.k) + feature;
  const auto* v = static_cast<const Element*>(p.v) + feature;
  extern __shared__ __align__(16) unsigned char shared[];
  Ring& ring = reinterpret_cast<Ring*>(shared)[warp];

  // The warps take the item's tokens in turns of one round, 32 tokens.
  const std::int32_t first = item.keys.begin + warp * 32, keys = item.keys.end;
  const auto token_of_round = [&](std::int32_t round) { return first + round * warps * 32 + lane; };
  const std::int32_t rounds = first < keys ? div_up(keys - first, warps * 32) : 0, steps = rounds * round_stages;

  const std::int32_t first_page = p.table.indptr[item.request];
  const auto slots_of_round = [&](std::int32_t n) {
    return TokenSlots(p, first_page, item.head, token_of_round(n), item.keys.end);
  };
  TokenSlots slots = slots_of_round(0), next = slots_of_round(1);
  const auto copy = [&](std::int32_t step) {  // in order: step 0, 1, 2 ...
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

  for (int step = 0; step < stages - 1; ++step) {
    if (step < steps) copy(step);
    cp_async_commit();  // also an empty group: the count of groups, not of copies, says what has arrived
  }
  Group mine;
  mine.load_query(static_cast<const Element*>(p.q) + row * Group::head_dim + feature, rows);
  const Score score(p);
  for (std::int32_t step = 0; step < steps; ++step) {
    // Copies into the slot that the step before read; the lane that read it is the one that writes it, so program order
    // does.
    if (step + stages - 1 < steps) copy(step + stages - 1);
    cp_async_commit();
    cp_async_wait<stages - 1>();  // this step's bytes have arrived, for the lane that copied them: itself
    uint4 stage_k[4], stage_v[4];
    bool seen[4];
    const std::int32_t token =
        first + step / round_stages * warps * 32 + step % round_stages * stage_tokens + Group::token();
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      stage_k[u] = ring.k[step % stages][u][lane];
      stage_v[u] = ring.v[step % stages][u][lane];
      seen[u] = token + u * Group::tokens < keys;
    }
    mine.absorb(stage_k, stage_v, seen, score);
  }
  cp_async_wait<0>();

  __shared__ WarpPartials<Group::head_dim, Group::rows, warps> partials;
  partials.put(mine);
  __syncthreads();  // every warp's partial is there
  partials.write_rows(rows, [&](int r, int i, SoftmaxState<float> state, float value) {
    if (item.whole()) {
      write_output(p, row + r, Group::head_dim, i, state, value);
    } else {
      write_partial(plan, item.partial_slot + r, Group::head_dim, i, state, value);
    }
  });
}

}  // namespace

void attend(const DecodeCall& call, const DevicePlan& plan, void* workspace, cudaStream_t stream) {
  const PlannedParams planned = planned_params(plan.items(), plan.merges(), plan.partial_rows, call.head_dim, workspace);
  with_instance(call, [&]<class Element, int head_dim, class Score>() {
    with_rows(plan.query_tile, [&]<int rows>() {
      const auto run = kernel<LaneGroup<Element, head_dim, rows>, Score>;
      launch(run, {.grid = plan.num_items, .block = warps * 32, .shared_bytes = warps * sizeof(Ring)}, stream, call.params,
             planned);
    });
  });
  merge_partials(call, planned, plan.num_merges, plan.query_tile, stream);
}

}  // namespace flashladder::gpu::d4
