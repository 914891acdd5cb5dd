// D3, split-K over a plan (Flash-Decoding): one block for each work item, then a merge kernel. Must equal D2.
// grid   the plan's work, then rows of merges       block  128 threads       shared memory  as D2
// New: what a block does is data. An item names a request's pages, a KV head, packed rows and a range of keys, so a long
// request is cut into pieces that run side by side; pieces leave normalised partials and their lse_log2 in the workspace,
// and attention/merge_partials.cu joins them in slot order. Where to cut is the planner's choice, and this file never knows
// it.
// Leaves out: loads still wait for the arithmetic of the iteration before them; the merge is a second launch.
#include "gpu/attention/merge_partials.hpp"
#include "gpu/attention/packed_work.cuh"
#include "gpu/decode/decode.hpp"
#include "gpu/decode/instances.cuh"
#include "gpu/decode/lane_group.cuh"
#include "gpu/launch.hpp"

namespace flashladder::gpu::d3 {
namespace {

template <class Group>
__global__ void __launch_bounds__(lane_warps * 32, lane_blocks_per_sm<Group>)
decode_d3_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ KvPages kv,
                 const __grid_constant__ Scaled::Params params, const __grid_constant__ PackedParams plan) {
  using Element = typename Group::Element;
  const PackedItem item = work_of(plan, rows.group_size, blockIdx.x);
  const RowPlace first = OneQueryRows{plan.pack}(item, 0);
  const std::int32_t height = item.rows.size(), feature = Group::lane() * 8;
  const auto* k = static_cast<const Element*>(kv.k) + feature;
  const auto* v = static_cast<const Element*>(kv.v) + feature;

  Group mine;
  mine.load_query(static_cast<const Element*>(rows.q) + rows.q_offset(first) + feature, rows.q_head, height);
  const std::uint32_t end = item.keys.end;  // unsigned: a token behind the last of 2^31 - 1 must not wrap
  constexpr std::uint32_t in_flight = tokens_in_flight<Group>, warp_tokens = Group::tokens * in_flight;
  for (std::uint32_t tile = item.keys.begin + threadIdx.x / 32 * warp_tokens; tile < end; tile += lane_warps * warp_tokens) {
    uint4 keys[in_flight], values[in_flight];
    bool seen[in_flight];
#pragma unroll
    for (int u = 0; u < in_flight; ++u) {
      const std::uint32_t token = tile + u * Group::tokens + Group::token();
      seen[u] = token < end;
      keys[u] = values[u] = {};
      if (seen[u]) {
        const KvSlot slot = kv.pages.locate_from(item.first_page, static_cast<std::int32_t>(token));
        keys[u] = *reinterpret_cast<const uint4*>(k + kv.k_strides.offset(slot, item.kv_head));
        values[u] = *reinterpret_cast<const uint4*>(v + kv.v_strides.offset(slot, item.kv_head));
      }
    }
    mine.absorb(keys, values, seen, [&](float dot) { return dot * params.scale; });
  }

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
      launch(decode_d3_kernel<LaneGroup<Element, head_dim, tile_rows>>, {.grid = shape.num_work(), .block = lane_warps * 32},
             stream, call.rows, call.kv, Scaled::params(call), plan);
    });
  });
  merge_partials(call, shape, plan, stream);
}

}  // namespace flashladder::gpu::d3
