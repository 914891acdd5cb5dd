// D3, split-K over a plan (Flash-Decoding): one block for each work item, then a merge kernel. Must equal D2.
// grid   items of the plan, then merges * rows       block  128 threads       shared memory  as D2
// New: what a block does is data. An item names a request, a KV head, packed rows and a range of keys, so a long request is
// cut into pieces that run side by side; pieces leave normalised partials and their lse_log2 in the workspace, and
// gpu/merge joins them in slot order. Where to cut is the planner's choice, and this file never knows it.
// Leaves out: loads still wait for the arithmetic of the iteration before them; the merge is a second launch.
#include "gpu/decode/decode.hpp"
#include "gpu/attention/instances.cuh"
#include "gpu/decode/lane_group.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/launch.hpp"
#include "gpu/attention/merge_partials.hpp"

namespace flashladder::gpu::d3 {
namespace {

constexpr int warps = 4;
template <class Group>
constexpr int tokens_in_flight = Group::rows <= 4 ? 4 : 2;  // as D2
template <class Group>
constexpr int blocks_per_sm = Group::rows == 1 ? 5 : Group::rows <= 4 ? 3 : 2;  // as D2

template <class Group, class Score>
__global__ void __launch_bounds__(warps * 32, blocks_per_sm<Group>)
kernel(const __grid_constant__ DecodeParams p, const __grid_constant__ PlannedParams plan) {
  using Element = typename Group::Element;
  const WorkItem item = plan.items[blockIdx.x];
  const std::int32_t rows = item.rows.size(), feature = Group::lane() * 8;
  const std::int64_t row = std::int64_t{item.request} * p.num_qo_heads + item.head * p.group_size() + item.rows.begin;
  const auto* k = static_cast<const Element*>(p.k) + feature;
  const auto* v = static_cast<const Element*>(p.v) + feature;

  Group mine;
  mine.load_query(static_cast<const Element*>(p.q) + row * Group::head_dim + feature, rows);
  const Score score(p);
  constexpr int in_flight = tokens_in_flight<Group>, warp_tokens = Group::tokens * in_flight;
  for (std::int32_t tile = item.keys.begin + threadIdx.x / 32 * warp_tokens; tile < item.keys.end;
       tile += warps * warp_tokens) {
    uint4 keys[in_flight], values[in_flight];
    bool seen[in_flight];
#pragma unroll
    for (int u = 0; u < in_flight; ++u) {
      const std::int32_t token = tile + u * Group::tokens + Group::token();
      seen[u] = token < item.keys.end;
      keys[u] = values[u] = {};
      if (seen[u]) {
        const KvSlot slot = p.table.locate(item.request, token);
        keys[u] = *reinterpret_cast<const uint4*>(k + p.k_strides.offset(slot, item.head));
        values[u] = *reinterpret_cast<const uint4*>(v + p.v_strides.offset(slot, item.head));
      }
    }
    mine.absorb(keys, values, seen, score);
  }

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
      launch(run, {.grid = plan.num_items, .block = warps * 32}, stream, call.params, planned);
    });
  });
  merge_partials(call, planned, plan.num_merges, plan.query_tile, stream);
}

}  // namespace flashladder::gpu::d3
