// The merge kernel of Flash-Decoding: o = sum of partial o, each weighted by 2^(its lse - the lse of all). Used by D3, D4.
// grid   num_merges * query_tile blocks, one for each row      block  head_dim threads, one for each feature      no shared
// memory Must equal the loop in reference/c4_planned.cpp (run_merge): slot order, never arrival order, so that the bits are
// the same in every run. The launch is the barrier: a kernel starts when all partials of the one before it are written.
#include "gpu/attention/merge_partials.hpp"

#include "gpu/attention/write_row.cuh"
#include "gpu/launch.hpp"

namespace flashladder::gpu {
namespace {

__global__ void kernel(const __grid_constant__ DecodeParams p, const __grid_constant__ PlannedParams plan,
                       std::int32_t query_tile) {
  const Merge m = plan.merges[blockIdx.x / query_tile];
  const std::int32_t r = blockIdx.x % query_tile, rows = m.rows.size(), head_dim = blockDim.x, feature = threadIdx.x;
  if (r >= rows) return;
  SoftmaxState<float> state;
  float value = 0;
#pragma unroll 4
  for (std::int32_t partial = 0; partial < m.num_partials; ++partial) {
    const std::int64_t slot = m.first_slot + std::int64_t{partial} * rows + r;
    const float o = plan.partial_o[slot * head_dim + feature], lse_log2 = plan.partial_lse_log2[slot];
    const MergeWeights<float> weights = merge(state, SoftmaxState<float>::from_lse_log2(lse_log2));
    value = value * weights.a + o * weights.b;
  }
  const std::int64_t row = std::int64_t{m.request} * p.num_qo_heads + m.head * p.group_size() + m.rows.begin + r;
  write_output(p, row, head_dim, feature, state, value);
}

}  // namespace

void merge_partials(const DecodeCall& call, const PlannedParams& plan, std::int64_t num_merges, std::int32_t query_tile,
                    cudaStream_t stream) {
  launch(kernel, {.grid = num_merges * query_tile, .block = call.head_dim}, stream, call.params, plan, query_tile);
}

}  // namespace flashladder::gpu
