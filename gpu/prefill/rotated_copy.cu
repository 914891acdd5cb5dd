// The rotated copy before P5 and P11 (rotated_copy.hpp): bound by the memory's rate.
// grid   as many blocks as are resident at once      block  lane x slot x token, up to 256 threads
// shared memory  2 KB: how far each pair turns from a position to the next
// Work is a list of tokens: those of K, of V, then of q, and every block takes its share of each. A token has head_dim / 16
// lanes for a head, and as many heads at once as fit the block. A lane holds 16 bytes of a head's first half and the 16 bytes
// of its second half that rotate with them; their eight rotations serve all heads that it takes of the token.
#include <algorithm>

#include "gpu/launch.hpp"
#include "gpu/prefill/copied_request.cuh"
#include "gpu/prefill/rotated_copy.hpp"
#include "gpu/ptx/griddepcontrol.cuh"
#include "gpu/rope/rope_params.hpp"
#include "gpu/rope/rotate.cuh"
#include "gpu/rope/turns.hpp"

namespace flashladder::gpu::rotated {
namespace {

constexpr int threads = 256, blocks_of_sm = 3, at_once = 2;  // at_once: heads whose loads are under way together
constexpr int pairs = 8;                                     // of a lane

enum Kind { keys, values, queries };

// K, V or q [tokens, heads, dim]. Strides count elements; those of q are its tokens' in the place of pages.
struct Rows {
  const void* from = nullptr;
  void* to = nullptr;  // dense
  KvStrides strides;   // of from
  std::int32_t heads = 0, dim = 0;
};

struct Params {
  Rows rows[3];  // by Kind
  PageList pages;
  const CompactedRequest* requests = nullptr;  // [num_requests + 1]
  const RotatedQueries* queries = nullptr;     // [num_requests + 1]
  std::int32_t num_requests = 0;
  bool values = true;  // are copied
  RopeTurns turns;
};

struct Token {
  KvSlot from{};
  std::int64_t to = 0;  // row of the copy
  std::int32_t position = 0;
};

__device__ Token key_token(const Params& p, std::int32_t copy) {
  const CompactedRequest request = request_of(p.requests, p.num_requests, copy);
  const std::int32_t token = request.begin + copy - request.first_copy;
  return {p.pages.locate_from(request.first_page, token), std::int64_t{request.first_row} + token, token};
}

__device__ Token query_token(const Params& p, std::int32_t query) {
  const RotatedQueries request = request_of(p.queries, p.num_requests, query);
  return {{query, 0}, query, request.position + query - request.first_query};
}

// The heads of this thread's slot. Piece 0 of a lane lies in the first half of a head, piece 1 in the second.
template <class Element>
__device__ void copy_heads(const Rows& rows, const Token& token, bool rotates, const Rotations<pairs>& rotations) {
  const auto slot = static_cast<std::int32_t>(threadIdx.y), slots = static_cast<std::int32_t>(blockDim.y);
  const std::int32_t piece = pairs * static_cast<std::int32_t>(threadIdx.x), half = rows.dim / 2;
  if (piece >= half) return;  // V has fewer features than K
  const Element* from = static_cast<const Element*>(rows.from) + rows.strides.offset(token.from, 0) + piece;
  Element* to = static_cast<Element*>(rows.to) + token.to * rows.heads * rows.dim + piece;
  for (std::int32_t first = slot; first < rows.heads; first += at_once * slots) {
    std::uint32_t words[at_once][pairs];
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      const std::int32_t head = first + i * slots;
      if (head >= rows.heads) continue;
      load_words<pairs / 2>(from + head * rows.strides.head, words[i]);
      load_words<pairs / 2>(from + head * rows.strides.head + half, words[i] + pairs / 2);
    }
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      const std::int32_t head = first + i * slots;
      if (head >= rows.heads) continue;
      if (rotates) rotate<Element, RopeStyle::neox>(rotations, words[i]);
      store_words<pairs / 2>(to + head * rows.dim, words[i]);
      store_words<pairs / 2>(to + head * rows.dim + half, words[i] + pairs / 2);
    }
  }
}

template <class Element>
__global__ void __launch_bounds__(threads, blocks_of_sm) prefill_rotated_copy_kernel(const __grid_constant__ Params p) {
  __shared__ std::uint64_t per_position[RopeTurns::most_pairs];
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned block = blockDim.x * blockDim.y * blockDim.z, all_pairs = p.rows[keys].dim / 2;
  for (unsigned pair = thread; pair < all_pairs; pair += block) per_position[pair] = p.turns.per_position[pair];
  __syncthreads();  // they are there
  griddepcontrol_wait();  // the kernel before may still write q, pages and page ids, and one before it read the copy
  griddepcontrol_launch_dependents();
  const std::int64_t of_keys = p.requests[p.num_requests].first_copy, of_values = p.values ? of_keys : 0;
  const std::int64_t all = of_keys + of_values + p.queries[p.num_requests].first_query;
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.z;
  for (std::int64_t at = std::int64_t{blockIdx.x} * blockDim.z + threadIdx.z; at < all; at += step) {
    const Kind kind = at < of_keys ? keys : at < of_keys + of_values ? values : queries;
    const std::int64_t before = kind == keys ? 0 : kind == values ? of_keys : of_keys + of_values;
    const auto n = static_cast<std::int32_t>(at - before);
    const Token token = kind == queries ? query_token(p, n) : key_token(p, n);
    Rotations<pairs> rotations;
#pragma unroll
    for (int i = 0; i < pairs; ++i) {
      const Rotation<float> one = signed_rotation_by(token.position, per_position[pairs * threadIdx.x + i]);
      rotations.cos[i] = one.cos, rotations.sin[i] = one.sin;
    }
    copy_heads<Element>(p.rows[kind], token, kind != values, rotations);
  }
}

Params params_of(const AttentionCall& call, const Compaction& to) {
  const AttentionParams& p = call.params;
  const CopyLayout at = copy_layout(to.capacity, p, call.dtype);
  const auto* requests = reinterpret_cast<const CompactedRequest*>(to.list);
  return {.rows = {{call.kv.k, to.copy + at.k, call.kv.k_strides, p.num_kv_heads, p.head_dim_qk},
                   {call.kv.v, to.copy + at.v, call.kv.v_strides, p.num_kv_heads, p.head_dim_vo},
                   {call.rows.q, to.copy + at.q, {call.rows.q_token, 0, call.rows.q_head}, p.num_qo_heads, p.head_dim_qk}},
          .pages = call.kv.pages, .requests = requests,
          .queries = reinterpret_cast<const RotatedQueries*>(requests + to.capacity.records()),
          .num_requests = to.capacity.requests, .values = to.capacity.values,
          .turns = rope_turns(p.head_dim_qk, p.rope_scale, p.rope_theta)};
}

// The call on what `copied` was given to write.
AttentionCall call_on(const Params& copied, const AttentionCall& call, const Compaction& to) {
  const auto dense = [](const Rows& rows) { return KvStrides{std::int64_t{rows.heads} * rows.dim, 0, rows.dim}; };
  const Rows &k = copied.rows[keys], &v = copied.rows[values], &q = copied.rows[queries];
  AttentionCall on = call;
  on.params = behind_rotation(call.params);
  on.rows.q = q.to, on.rows.q_token = dense(q).page, on.rows.q_head = q.dim;
  on.kv.k = k.to, on.kv.k_strides = dense(k);
  if (to.capacity.values) on.kv.v = v.to, on.kv.v_strides = dense(v);
  on.kv.pages = {nullptr, 1, static_cast<std::int32_t>(to.capacity.tokens)};
  on.programmatic = true;
  return on;
}

}  // namespace

AttentionCall copy(const AttentionCall& call, const Compaction& to, cudaStream_t stream) {
  require_16_bytes(call);
  const AttentionParams& p = call.params;
  require(call.dtype != DType::f32, "dtype", name_of(call.dtype), "is not rotated into a copy: f16 and bf16 are");
  require(p.head_dim_qk % (2 * pairs) == 0 && p.head_dim_vo % (2 * pairs) == 0, "head_dim", p.head_dim_qk,
          "must be a multiple of 16");
  require(to.capacity.queries.value_or(0) >= call.nnz_qo, "queries", call.nnz_qo, "are more than the copy has rows");
  const Params params = params_of(call, to);
  const std::int32_t lanes = std::max(p.head_dim_qk, p.head_dim_vo) / (2 * pairs);
  const TokenShape tokens = token_shape(p.num_kv_heads, lanes, at_once, threads);
  const auto size = [](std::int32_t n) { return static_cast<unsigned>(n); };
  const LaunchShape shape{.grid = std::int64_t{to.num_sms} * blocks_of_sm,
                          .block = dim3(size(tokens.lanes), size(tokens.slots), size(tokens.tokens_in_block)),
                          .programmatic = call.programmatic};
  launch(call.dtype == DType::f16 ? prefill_rotated_copy_kernel<Half> : prefill_rotated_copy_kernel<BFloat16>, shape, stream,
         params);
  return call_on(params, call, to);
}

}  // namespace flashladder::gpu::rotated
