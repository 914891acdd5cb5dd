// D1, one block for each (request, query head): the GPU rung that anyone can read. Must equal C4.
// grid   batch * num_qo_heads blocks    block  128 threads    shared memory  head_dim_qk + head_dim_vo + 3 * 128 numbers
// New: thousands of threads. In tiles of 128 keys a thread is first a key: it computes that key's logit. Then it is some
// features of o: it walks the tile's values. The barrier between the two roles is where threads need each other.
// It takes everything that decode can mean, by the variant General, so that it is the GPU's oracle: every other rung has to
// equal it on what both take.
// Leaves out: everything that makes it fast. Loads are of one element, neighbours in a warp read different rows of K, each
// head of a group reads K and V again, and a batch of one long request keeps num_qo_heads blocks busy and no more.
#include "gpu/attention/elements.cuh"
#include "gpu/attention/key_dot.cuh"
#include "gpu/attention/variants.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/decode/decode.hpp"
#include "gpu/element.cuh"
#include "gpu/launch.hpp"

namespace flashladder::gpu::d1 {
namespace {

constexpr int threads = key_tile;  // a thread is a key
// 8-bit elements take registers on their way to float: the compiler, asked for nothing (0), would spill some of them on sm_80.
template <class Stored>
constexpr int blocks_of_sm = sizeof(Stored) == 1 ? 4 : 0;

// The keys that the request's query sees, and what visibility depends on. Without a plan each block finds that out itself.
struct Request {
  RequestShape shape;
  Range keys;

  __device__ Request(const PageTable& table, const AttentionParams& p, std::int32_t request) {
    shape.kv_len = table.length(request);
    shape.diagonal = shape.kv_len - 1;
    keys = visible_keys(p, 1, shape.kv_len, 0);
    if (p.mask != MaskMode::custom) return;
    std::int64_t tokens = 0;
    for (std::int32_t before = 0; before < request; ++before) tokens += table.length(before);
    shape.mask = mask_words(request, tokens);
  }
};

// q [head_dim_qk]: this block's query, in f32, rotated to its position if RoPE is on.
template <class Element>
__device__ void load_query(const RopeInAttention& rope, const Element* from, std::int32_t head_dim, std::int32_t position,
                           float* q) {
  for (std::int32_t d = threadIdx.x; d < head_dim; d += threads) q[d] = to_float(from[d]);
  __syncthreads();  // q is whole: the features of a pair may have come by two threads
  for (std::int32_t pair = threadIdx.x; rope.on && pair < head_dim / 2; pair += threads) {
    const RopePair at = rope_pair(RopeStyle::neox, pair, head_dim);
    rotation_at(rope, position, pair).apply(q[at.x], q[at.y]);
  }
  __syncthreads();  // q is rotated
}

template <class Element, class Stored>
__global__ void __launch_bounds__(threads, blocks_of_sm<Stored>)
decode_d1_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ KvPages kv,
                 const __grid_constant__ PageTable table, const __grid_constant__ General::Params params,
                 const __grid_constant__ RopeInAttention rope) {
  const AttentionParams& p = params.attention;
  const std::int32_t request = blockIdx.x / rows.num_qo_heads, qo_head = blockIdx.x % rows.num_qo_heads;
  const std::int32_t kv_head = qo_head / rows.group_size, t = threadIdx.x;
  const Request mine(table, p, request);

  extern __shared__ __align__(8) unsigned char shared[];
  auto* v_row = reinterpret_cast<std::int64_t*>(shared);  // [threads] where each key's value begins, in elements
  auto* logit = reinterpret_cast<float*>(v_row + threads);  // [threads] of the tile's keys, log2 units
  float* q = logit + threads;                               // [head_dim_qk]
  float* o = q + p.head_dim_qk;                             // [head_dim_vo], not normalised; thread t has t, t + threads ...
  const auto* from = static_cast<const Element*>(rows.q) + rows.q_offset({request, qo_head});
  load_query(rope, from, p.head_dim_qk, mine.shape.diagonal, q);
  for (std::int32_t d = t; d < p.head_dim_vo; d += threads) o[d] = 0;

  const General variant{params};
  const General::Query query = variant.query(mine.shape, 0);
  const General::Head head = variant.head(qo_head);
  SoftmaxState<float> state;  // the same in every thread
  for (std::int64_t tile = mine.keys.begin; tile < mine.keys.end; tile += threads) {
    const auto keys = static_cast<std::int32_t>(min(std::int64_t{threads}, mine.keys.end - tile));
    if (t < keys) {
      const auto j = static_cast<std::int32_t>(tile + t);
      const KvSlot slot = table.locate(request, j);
      const Stored* key = static_cast<const Stored*>(kv.k) + kv.k_strides.offset(slot, kv_head);
      const bool seen = !variant.has_mask() || variant.sees(query, j);
      const float dot = kv.k_scale_of(kv_head) * key_dot(rope, p.head_dim_qk, [&](std::int32_t d) { return q[d]; }, key, j);
      logit[t] = seen ? variant.logit(dot, query, head, j) : SoftmaxState<float>::nothing;
      v_row[t] = kv.v_strides.offset(slot, kv_head);
    }
    __syncthreads();  // the tile's logits are whole

    SoftmaxState<float> tile_state;
    for (int j = 0; j < keys; ++j) tile_state.m = fmaxf(tile_state.m, logit[j]);
    for (int j = 0; j < keys; ++j) tile_state.d += SoftmaxState<float>::weight(logit[j], tile_state.m);
    const float tile_m = tile_state.m;
    const MergeWeights<float> weights = merge(state, tile_state);
    for (std::int32_t d = t; d < p.head_dim_vo; d += threads) {
      float tile_o = 0;
      for (int j = 0; j < keys; ++j) {
        if (logit[j] == SoftmaxState<float>::nothing) continue;  // a masked key's value is not looked at: it may be NaN
        const float weight = SoftmaxState<float>::weight(logit[j], tile_m);
        tile_o += weight * to_float(static_cast<const Stored*>(kv.v)[v_row[j] + d]);
      }
      o[d] = o[d] * weights.a + tile_o * weights.b;
    }
    __syncthreads();  // nobody needs this tile's logits any more: the next tile may overwrite them
  }

  const float row_constant = variant.row_constant(query, head);
  for (std::int32_t d = t; d < p.head_dim_vo; d += threads) {
    write_output(rows, {request, qo_head}, d, state, o[d], row_constant);
  }
}

// head_dims: head_dim_qk + head_dim_vo.
constexpr std::size_t shared_bytes(std::int32_t head_dims) {
  return (static_cast<std::size_t>(head_dims) + threads) * sizeof(float) + threads * sizeof(std::int64_t);
}

}  // namespace

void attend(const AttentionCall& call, cudaStream_t stream) {
  const AttentionParams& p = call.params;
  const LaunchShape shape{.grid = std::int64_t{call.batch} * p.num_qo_heads, .block = threads,
                          .shared_bytes = shared_bytes(p.head_dim_qk + p.head_dim_vo)};
  with_elements(call, [&]<class Element, class Stored>() {
    launch(decode_d1_kernel<Element, Stored>, shape, stream, call.rows, call.kv, call.table, General::params(call),
           rope_in_attention(p));
  });
}

}  // namespace flashladder::gpu::d1
