// The partials of cut tiles become rows: o = sum of partial o, each weighted by 2^(its lse - the largest), over the sum of
// the weights.
// grid   one block for each row of a merge      block  128 threads, four features each      no shared memory
// Partials are joined in slot order, never in the order of arrival, so that the bits are the same in every run. The launch is
// the barrier, but a block is on its SM as soon as there is room, and waits there.
// Not fused into the kernel before, as D6 has it: the last CTA to arrive would read 64 rows of up to a hundred partials of
// 2 KB each through one SM, which takes longer than a launch.
#include "gpu/attention/packed_work.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/launch.hpp"
#include "gpu/mla/mla.hpp"
#include "gpu/ptx/griddepcontrol.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {
namespace {

constexpr int threads = mla_ckv / 4, at_once = 16;  // partials whose loads are under way together

__global__ void __launch_bounds__(threads)
mla_merge_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ PackedParams plan, std::int32_t query_tile) {
  griddepcontrol_launch_dependents();
  griddepcontrol_wait();  // the partials, and the plan that says where they lie
  const std::int32_t merge = blockIdx.x / query_tile, r = blockIdx.x % query_tile;
  if (merge >= plan.view.header->merges) return;  // a captured grid is for the largest plan
  const PackedMerge m = plan.view.merges[merge];
  const std::int64_t height = m.rows.size(), first = m.first_slot + r;
  if (r >= height) return;
  const int lane = threadIdx.x % 32;
  const auto lse_of = [&](std::int32_t p) {
    return p < m.num_partials ? plan.partial_lse_log2[first + p * height] : SoftmaxState<float>::nothing;
  };
  SoftmaxState<float> state;
  for (std::int32_t p = lane; p < m.num_partials; p += 32) state.m = fmaxf(state.m, lse_of(p));
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) state.m = fmaxf(state.m, __shfl_xor_sync(all_lanes, state.m, offset));
  const float4* o = reinterpret_cast<const float4*>(plan.partial_o) + first * threads + threadIdx.x;
  float4 value{};
  for (std::int32_t p = 0; p < m.num_partials; p += at_once) {
    float4 part[at_once];
#pragma unroll
    for (int i = 0; i < at_once; ++i) part[i] = p + i < m.num_partials ? o[(p + i) * height * threads] : float4{};
    const float weights = SoftmaxState<float>::weight(lse_of(p + lane % at_once), state.m);  // lane i has the i-th's
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      const float weight = __shfl_sync(all_lanes, weights, i);
      state.d += weight;
      value = {fmaf(part[i].x, weight, value.x), fmaf(part[i].y, weight, value.y), fmaf(part[i].z, weight, value.z),
               fmaf(part[i].w, weight, value.w)};
    }
  }
  write_output(rows, PackedRows{plan.pack}(m, r), threadIdx.x * 4, state, value);
}

}  // namespace

void merge_mla(const MlaCall& call, const PackedShape& shape, const PackedParams& plan, cudaStream_t stream) {
  const LaunchShape launch_shape{.grid = shape.merges * shape.query_tile, .block = threads, .programmatic = true};
  launch(mla_merge_kernel, launch_shape, stream, call.rows, plan, shape.query_tile);
}

}  // namespace flashladder::gpu
