// D2, 16-byte loads and lane groups: one block for each (request, KV head). Must equal D1.
// grid   batch * num_kv_heads * ceil(group / 8) blocks      block  128 threads      shared memory  4 * rows * (head_dim +
// 2) * 4 B
// New: a warp reads whole tokens, 16 bytes a lane, several tokens in flight before the first is used; dot products end in
// warp shuffles (lane_group.cuh); the query heads of a group share each load of K and V. Tokens go round the warps, each
// lane group keeps its own softmax state, and the states merge once, at the end: the loop has no barrier at all.
// Leaves out: requests are not cut, so a batch of few or of uneven requests leaves most of the GPU idle.
#include "gpu/decode/decode.hpp"
#include "gpu/attention/instances.cuh"
#include "gpu/decode/lane_group.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/launch.hpp"

namespace flashladder::gpu::d2 {
namespace {

constexpr int warps = 4;
// Tokens that each lane group loads before it computes. With 8 rows of q and o more would not fit the registers.
template <class Group>
constexpr int tokens_in_flight = Group::rows <= 4 ? 4 : 2;
template <class Group>
constexpr int blocks_per_sm = Group::rows == 1   ? 5
                              : Group::rows <= 4 ? 3
                                                 : 2;  // resident, by registers: 8 * rows for q, for o

template <class Group, class Score>
__global__ void __launch_bounds__(warps * 32, blocks_per_sm<Group>)
kernel(const __grid_constant__ DecodeParams p) {
  using Element = typename Group::Element;
  const std::int32_t group = p.group_size(), tiles = div_up(group, Group::rows);
  const std::int32_t request = blockIdx.x / (p.num_kv_heads * tiles), kv_head = blockIdx.x / tiles % p.num_kv_heads;
  const std::int32_t first_row = blockIdx.x % tiles * Group::rows, rows = min(Group::rows, group - first_row);
  const std::int64_t row = std::int64_t{request} * p.num_qo_heads + kv_head * group + first_row;  // of q and o
  const std::int32_t kv_len = p.table.length(request), feature = Group::lane() * 8;
  const auto* k = static_cast<const Element*>(p.k) + feature;
  const auto* v = static_cast<const Element*>(p.v) + feature;

  Group mine;
  mine.load_query(static_cast<const Element*>(p.q) + row * Group::head_dim + feature, rows);
  const Score score(p);
  constexpr int in_flight = tokens_in_flight<Group>, warp_tokens = Group::tokens * in_flight;
  for (std::int32_t tile = threadIdx.x / 32 * warp_tokens; tile < kv_len; tile += warps * warp_tokens) {
    uint4 keys[in_flight], values[in_flight];
    bool seen[in_flight];
#pragma unroll
    for (int u = 0; u < in_flight; ++u) {
      const std::int32_t token = tile + u * Group::tokens + Group::token();
      seen[u] = token < kv_len;
      keys[u] = values[u] = {};  // beyond the end there may be NaN, and 0 * NaN is NaN: nothing is read there
      if (seen[u]) {
        const KvSlot slot = p.table.locate(request, token);
        keys[u] = *reinterpret_cast<const uint4*>(k + p.k_strides.offset(slot, kv_head));
        values[u] = *reinterpret_cast<const uint4*>(v + p.v_strides.offset(slot, kv_head));
      }
    }
    mine.absorb(keys, values, seen, score);
  }

  __shared__ WarpPartials<Group::head_dim, Group::rows, warps> partials;
  partials.put(mine);
  __syncthreads();  // every warp's partial is there
  partials.write_rows(rows, [&](int r, int i, SoftmaxState<float> state, float value) {
    write_output(p, row + r, Group::head_dim, i, state, value);
  });
}

}  // namespace

void attend(const DecodeCall& call, cudaStream_t stream) {
  const std::int32_t group = call.params.group_size();
  with_instance(call, [&]<class Element, int head_dim, class Score>() {
    with_rows(group, [&]<int rows>() {
      const std::int64_t blocks = std::int64_t{call.batch} * call.params.num_kv_heads * div_up(group, rows);
      const auto run = kernel<LaneGroup<Element, head_dim, rows>, Score>;
      launch(run, {.grid = blocks, .block = warps * 32}, stream, call.params);
    });
  });
}

}  // namespace flashladder::gpu::d2
