// D1, one block for each (request, query head): the GPU rung that anyone can read. Must equal C4.
// grid   batch * num_qo_heads blocks            block  head_dim threads            shared memory  4 KB at most
// New: thousands of threads. In tiles of head_dim keys a thread is first a key (it computes one logit), then a feature of o
// (it walks the tile's values); the barrier between the two roles is where threads need each other.
// Leaves out: everything that makes it fast. Loads are of one element, neighbours in a warp read different rows of K, each
// head of a group reads K and V again, and a batch of one long request keeps num_qo_heads blocks busy and no more.
#include "gpu/decode/decode.hpp"
#include "gpu/attention/instances.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/element.cuh"
#include "gpu/launch.hpp"

namespace flashladder::gpu::d1 {
namespace {

template <class Element, int head_dim, class Score>
__global__ void __launch_bounds__(head_dim) kernel(const __grid_constant__ DecodeParams p) {
  const std::int32_t request = blockIdx.x / p.num_qo_heads, head = blockIdx.x % p.num_qo_heads;
  const std::int32_t kv_head = head / p.group_size(), kv_len = p.table.length(request), t = threadIdx.x;
  const std::int64_t row = std::int64_t{request} * p.num_qo_heads + head;
  const auto* k = static_cast<const Element*>(p.k);
  const auto* v = static_cast<const Element*>(p.v);

  __shared__ float q[head_dim];               // the query
  __shared__ float logit[head_dim];           // of the tile's keys, log2 units
  __shared__ std::int64_t v_row[head_dim];    // where each key's value begins, in elements
  q[t] = to_float(static_cast<const Element*>(p.q)[row * head_dim + t]);
  __syncthreads();  // q is whole

  const Score score(p);
  SoftmaxState<float> state;  // the same in every thread
  float o = 0;                // feature t
  for (std::int32_t tile = 0; tile < kv_len; tile += head_dim) {
    const std::int32_t keys = min(head_dim, kv_len - tile);
    if (t < keys) {
      const KvSlot slot = p.table.locate(request, tile + t);
      const Element* k_row = k + p.k_strides.offset(slot, kv_head);
      float sum[8] = {};  // eight, joined in pairs: one chain of 256 additions rounds more than near 1e5 a logit may be off
      for (int d = 0; d < head_dim; d += 8) {
        for (int i = 0; i < 8; ++i) sum[i] += q[d + i] * to_float(k_row[d + i]);
      }
      const float dot = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
      logit[t] = score(dot);
      v_row[t] = p.v_strides.offset(slot, kv_head);
    }
    __syncthreads();  // the tile's logits are whole

    SoftmaxState<float> tile_state;
    for (int j = 0; j < keys; ++j) tile_state.m = fmaxf(tile_state.m, logit[j]);
    float tile_o = 0;
    for (int j = 0; j < keys; ++j) {
      const float weight = exp2f(logit[j] - tile_state.m);
      tile_state.d += weight;
      tile_o += weight * to_float(v[v_row[j] + t]);
    }
    const MergeWeights<float> weights = merge(state, tile_state);
    o = o * weights.a + tile_o * weights.b;
    __syncthreads();  // nobody needs this tile's logits any more: the next tile may overwrite them
  }

  write_output(p, row, head_dim, t, state, o);
}

}  // namespace

void attend(const DecodeCall& call, cudaStream_t stream) {
  with_instance(call, [&]<class Element, int head_dim, class Score>() {
    const LaunchShape shape{.grid = std::int64_t{call.batch} * call.params.num_qo_heads, .block = head_dim};
    launch(kernel<Element, head_dim, Score>, shape, stream, call.params);
  });
}

}  // namespace flashladder::gpu::d1
