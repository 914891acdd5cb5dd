// P1, one thread a packed row: the prefill rung that anyone can read. Must equal C4.
// grid   the GPU's CTAs, which claim work, then rows of merges      block  64 threads or a multiple of 32 below
// shared memory   q and o of each row, in f32: (head_dim_qk + head_dim_vo) * query_tile numbers
// New: many queries for each request. A tile of packed rows (core/row.hpp) meets a range of keys; each row asks of each key
// whether it sees it, so that causal, window and custom masks are one line. CTAs claim the plan's work by a counter, longest
// first, and who claims what changes no bit: rows and partials have places of their own, partials merge in slot order.
// It takes everything, by the variant General, so that it is the GPU's oracle for prefill.
// Leaves out: everything that makes it fast. A thread walks its row's keys one by one and multiplies number by number; keys
// are shared by the rows of a tile only because the L1 cache still has them; tiles that no row sees through are not skipped.
#include "gpu/attention/elements.cuh"
#include "gpu/attention/key_dot.cuh"
#include "gpu/attention/merge_partials.hpp"
#include "gpu/attention/packed_work.cuh"
#include "gpu/attention/variants.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/element.cuh"
#include "gpu/launch.hpp"
#include "gpu/prefill/prefill.hpp"

namespace flashladder::gpu::p1 {
namespace {

// The numbers of a thread's row in shared memory [head_dim][rows]: neighbouring threads meet neighbouring banks.
struct Column {
  float* first;
  std::int32_t rows;
  __device__ float& operator()(std::int32_t d) const { return first[d * rows]; }
};

// q [head_dim_qk] of the row in f32, rotated to its position if RoPE is on.
template <class Element>
__device__ void load_query(const RopeInAttention& rope, const Element* from, std::int32_t head_dim, std::int32_t position,
                           Column q) {
  for (std::int32_t d = 0; d < head_dim; ++d) q(d) = to_float(from[d]);
  for (std::int32_t pair = 0; rope.on && pair < head_dim / 2; ++pair) {
    const RopePair at = rope_pair(RopeStyle::neox, pair, head_dim);
    rotation_at(rope, position, pair).apply(q(at.x), q(at.y));
  }
}

// The row's softmax over the item's keys; o [head_dim_vo] is not normalised.
template <class Stored>
__device__ SoftmaxState<float> attend_row(const KvPages& kv, const General& variant, const RopeInAttention& rope,
                                          const PackedItem& item, const General::Query& query, const General::Head& head,
                                          Column q, Column o) {
  const AttentionParams& p = variant.p.attention;
  SoftmaxState<float> state;
  for (std::int32_t j = item.keys.begin; j < item.keys.end; ++j) {
    if (!variant.sees(query, j)) continue;
    const KvSlot slot = kv.pages.locate_from(item.first_page, j);
    const Stored* key = static_cast<const Stored*>(kv.k) + kv.k_strides.offset(slot, item.kv_head);
    const Stored* value = static_cast<const Stored*>(kv.v) + kv.v_strides.offset(slot, item.kv_head);
    const float dot = kv.k_scale_of(item.kv_head) * key_dot(rope, p.head_dim_qk, q, key, j);
    const MergeWeights<float> weights = merge(state, {variant.logit(dot, query, head, j), 1.0f});
    for (std::int32_t d = 0; d < p.head_dim_vo; ++d) o(d) = o(d) * weights.a + weights.b * to_float(value[d]);
  }
  return state;
}

template <class Element, class Stored>
__global__ void prefill_p1_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ KvPages kv,
                                  const __grid_constant__ General::Params params,
                                  const __grid_constant__ RopeInAttention rope, const __grid_constant__ PackedParams plan,
                                  std::int32_t query_tile) {
  const AttentionParams& p = params.attention;
  const General variant{params};
  extern __shared__ float shared[];
  __shared__ std::int32_t claimed;
  const auto t = static_cast<std::int32_t>(threadIdx.x);
  const Column q{shared + t, query_tile}, o{shared + p.head_dim_qk * query_tile + t, query_tile};
  while (true) {
    if (t == 0) claimed = claim(plan);
    __syncthreads();  // the claim is in shared memory
    const std::int32_t work = claimed;
    __syncthreads();  // every thread has read it: the next claim may overwrite it
    if (work >= plan.view.header->num_work) return;
    const PackedItem item = work_of(plan, rows.group_size, work);
    if (t >= item.rows.size()) continue;

    const RowPlace place = PackedRows{plan.pack}(item, t);
    const General::Query query = variant.query(item.request, place.query - item.query);
    const General::Head head = variant.head(place.qo_head);
    const auto* from = static_cast<const Element*>(rows.q) + rows.q_offset(place);
    load_query(rope, from, p.head_dim_qk, item.request.diagonal + query.i, q);
    for (std::int32_t d = 0; d < p.head_dim_vo; ++d) o(d) = 0;
    const SoftmaxState<float> state = attend_row<Stored>(kv, variant, rope, item, query, head, q, o);
    const float row_constant = variant.row_constant(query, head);
    for (std::int32_t d = 0; d < p.head_dim_vo; ++d) {
      if (item.merge < 0) {
        write_output(rows, place, d, state, o(d), row_constant);
      } else {
        write_partial(plan.partial_o, plan.partial_lse_log2, std::int64_t{item.slot} + t, p.head_dim_vo, d, state, o(d));
      }
    }
  }
}

constexpr std::int32_t most_shared_bytes = 160 * 1024;  // of a block, on sm_80 too
std::int32_t row_bytes(const AttentionParams& p) {
  return (p.head_dim_qk + p.head_dim_vo) * static_cast<std::int32_t>(sizeof(float));
}

}  // namespace

std::string why_not(const AttentionParams& p, AttentionDTypes dtypes) {
  const std::string other = why_not_any_dtypes(dtypes);
  if (!other.empty()) return other;
  const std::string rope = why_no_rope(p);
  if (!rope.empty()) return rope;
  if (row_bytes(p) > most_shared_bytes) {
    return "head_dim_qk + head_dim_vo is more than " + std::to_string(most_shared_bytes / 4);
  }
  return "";
}

// 64 rows, or as many as shared memory holds.
RungGrid grid(const AttentionParams& p) {
  std::int32_t tile = 64;
  while (tile > 1 && tile * row_bytes(p) > most_shared_bytes) tile /= 2;
  return {tile, 2 * tile * row_bytes(p) <= most_shared_bytes ? 2 : 1};
}

void attend(const AttentionCall& call, const PackedShape& capacity, std::byte* packed, void* partials, cudaStream_t stream) {
  const PackedParams plan = packed_params(capacity, packed, partials, call.params.head_dim_vo);
  const std::int32_t tile = grid(call.params).query_tile;
  const LaunchShape shape{.grid = capacity.num_ctas, .block = static_cast<unsigned>(div_up(tile, 32) * 32),
                          .shared_bytes = static_cast<std::size_t>(tile) * row_bytes(call.params)};
  with_elements(call, [&]<class Element, class Stored>() {
    launch(prefill_p1_kernel<Element, Stored>, shape, stream, call.rows, call.kv, General::params(call),
           rope_in_attention(call.params), plan, tile);
  });
  merge_partials(call, capacity, plan, stream);
}

}  // namespace flashladder::gpu::p1
