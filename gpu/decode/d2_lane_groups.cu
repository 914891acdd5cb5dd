// D2, 16-byte loads and lane groups: one block for each (request, KV head). Must equal D1.
// grid   batch * num_kv_heads * ceil(group / 8) blocks    block  128 threads
// shared memory   4 warps * rows * (head_dim + 2) numbers
// New: a warp reads whole tokens, 16 bytes a lane, several tokens in flight before the first is used; dot products end in
// warp shuffles (lane_group.cuh); the query heads of a group share each load of K and V. Tokens go round the warps, each
// lane group keeps its own softmax state, and the states merge once, at the end: the loop has no barrier at all.
// Leaves out: requests are not cut, so a batch of few or of uneven requests leaves most of the GPU idle.
#include "gpu/attention/write_row.cuh"
#include "gpu/decode/decode.hpp"
#include "gpu/decode/instances.cuh"
#include "gpu/decode/lane_group.cuh"
#include "gpu/launch.hpp"

namespace flashladder::gpu::d2 {
namespace {

template <class Group>
__global__ void __launch_bounds__(lane_warps * 32, lane_blocks_per_sm<Group>)
decode_d2_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ KvPages kv,
                 const __grid_constant__ PageTable table, const __grid_constant__ Scaled::Params params,
                 std::int32_t window_left) {
  using Element = typename Group::Element;
  const std::int32_t tiles = div_up(rows.group_size, Group::rows), kv_heads = rows.num_qo_heads / rows.group_size;
  const std::int32_t request = blockIdx.x / (kv_heads * tiles), kv_head = blockIdx.x / tiles % kv_heads;
  const std::int32_t first_row = blockIdx.x % tiles * Group::rows, height = min(Group::rows, rows.group_size - first_row);
  const std::int32_t first_head = kv_head * rows.group_size + first_row, feature = Group::lane() * 8;
  const auto* k = static_cast<const Element*>(kv.k) + feature;
  const auto* v = static_cast<const Element*>(kv.v) + feature;

  Group mine;
  mine.load_query(static_cast<const Element*>(rows.q) + rows.q_offset({request, first_head}) + feature, rows.q_head, height);
  const Range seen_keys = visible_keys({.window_left = window_left}, 1, table.length(request), 0);
  const std::uint32_t end = seen_keys.end;  // unsigned: a token behind the last of 2^31 - 1 must not wrap
  constexpr std::uint32_t in_flight = tokens_in_flight<Group>, warp_tokens = Group::tokens * in_flight;
  for (std::uint32_t tile = seen_keys.begin + threadIdx.x / 32 * warp_tokens; tile < end; tile += lane_warps * warp_tokens) {
    uint4 keys[in_flight], values[in_flight];
    bool seen[in_flight];
#pragma unroll
    for (int u = 0; u < in_flight; ++u) {
      const std::uint32_t token = tile + u * Group::tokens + Group::token();
      seen[u] = token < end;
      keys[u] = values[u] = {};  // beyond the end there may be NaN, and 0 * NaN is NaN: nothing is read there
      if (seen[u]) {
        const KvSlot slot = table.locate(request, static_cast<std::int32_t>(token));
        keys[u] = *reinterpret_cast<const uint4*>(k + kv.k_strides.offset(slot, kv_head));
        values[u] = *reinterpret_cast<const uint4*>(v + kv.v_strides.offset(slot, kv_head));
      }
    }
    mine.absorb(keys, values, seen, [&](float dot) { return dot * params.scale; });
  }

  __shared__ WarpPartials<Group::head_dim, Group::rows, lane_warps> partials;
  partials.put(mine);
  __syncthreads();  // every warp's partial is there
  partials.write_rows(height, [&](int r, int i, SoftmaxState<float> state, float value) {
    write_output(rows, {request, first_head + r}, i, state, value);
  });
}

}  // namespace

void attend(const AttentionCall& call, cudaStream_t stream) {
  require_16_bytes(call);
  const std::int32_t group = call.rows.group_size;
  with_lower_instance(call, [&]<class Element, int head_dim>() {
    with_rows(group, [&]<int tile_rows>() {
      const std::int64_t blocks = std::int64_t{call.batch} * call.params.num_kv_heads * div_up(group, tile_rows);
      launch(decode_d2_kernel<LaneGroup<Element, head_dim, tile_rows>>, {.grid = blocks, .block = lane_warps * 32}, stream,
             call.rows, call.kv, call.table, Scaled::params(call), call.params.window_left);
    });
  });
}

}  // namespace flashladder::gpu::d2
