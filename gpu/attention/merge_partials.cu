// The merge kernel of Flash-Decoding: o = sum of partial o, each weighted by 2^(its lse - the lse of all). Used by D3, D4,
// D5 and P1.
// grid   one block for each row of a merge      block  up to 256 threads, which share the features      no shared memory
// Must equal the loop of reference/plan_executor.cpp: partials in slot order, never in the order of arrival, so that the
// bits are the same in every run. The launch is the barrier: a kernel starts when the previous kernel has written all
// partials.
#include "gpu/attention/merge_partials.hpp"

#include "gpu/attention/packed_work.cuh"
#include "gpu/attention/variants.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/launch.hpp"

namespace flashladder::gpu {
namespace {

// General's final writer is right for every variant: the constant is 0 where there is no ALiBi.
__global__ void __launch_bounds__(256)
attention_merge_partials_kernel(const __grid_constant__ QueryRows rows,
                                const __grid_constant__ General::Params variant_params,
                                const __grid_constant__ PackedParams plan, std::int32_t query_tile, std::int32_t head_dim) {
  const std::int32_t merge_index = blockIdx.x / query_tile, r = blockIdx.x % query_tile;
  const PackedHeader& header = *plan.view.header;
  if (merge_index >= header.merges * header.copies) return;  // a captured grid is for the largest plan
  const PackedMerge m = merge_of(plan, merge_index);
  const std::int32_t height = m.rows.size();
  if (r >= height) return;
  const RowPlace place = PackedRows{plan.pack}(m, r);
  const General variant{variant_params};
  const General::Query query = variant.query(m.request, place.query - m.query);
  const float row_constant = variant.row_constant(query, variant.head(place.qo_head));
  for (std::int32_t feature = threadIdx.x; feature < head_dim; feature += blockDim.x) {
    SoftmaxState<float> state;
    float value = 0;
#pragma unroll 4
    for (std::int32_t partial = 0; partial < m.num_partials; ++partial) {
      const std::int64_t slot = m.first_slot + std::int64_t{partial} * height + r;
      const float o = plan.partial_o[slot * head_dim + feature], lse_log2 = plan.partial_lse_log2[slot];
      const MergeWeights<float> weights = merge(state, SoftmaxState<float>::from_lse_log2(lse_log2));
      value = value * weights.a + o * weights.b;
    }
    write_output(rows, place, feature, state, value, row_constant);
  }
}

}  // namespace

void merge_partials(const AttentionCall& call, const PackedShape& shape, const PackedParams& plan, cudaStream_t stream) {
  const std::int32_t head_dim = call.params.head_dim_vo;
  const LaunchShape launch_shape{.grid = shape.merges * shape.copies * shape.query_tile,
                                 .block = static_cast<unsigned>(div_up(head_dim < 256 ? head_dim : 256, 32) * 32)};
  launch(attention_merge_partials_kernel, launch_shape, stream, call.rows, General::params(call), plan, shape.query_tile,
         head_dim);
}

}  // namespace flashladder::gpu
