// The partials of cut tiles become rows, as D6 merges them (attention/partial_merge.cuh), in slot order.
// grid   one block for each row of a merge      block  128 threads, four features each      shared memory  16 partials: 32 KB
// The launch is the barrier, but a block is on its SM as soon as there is room, and waits there.
// Not fused into the kernel before, as D6 has it: the last CTA to arrive would read 64 rows of up to a hundred partials of
// 2 KB each through one SM, which takes longer than a launch.
#include "gpu/attention/packed_work.cuh"
#include "gpu/attention/partial_merge.cuh"
#include "gpu/attention/thread_group.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/launch.hpp"
#include "gpu/mla/mla.hpp"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu {
namespace {

constexpr int pieces = 16;  // partials on their way at once
using Threads = ThreadGroup<mla_ckv / 4>;

__global__ void __launch_bounds__(Threads::threads)
mla_merge_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ PackedParams plan, std::int32_t query_tile) {
  __shared__ float4 stage[pieces * Threads::threads];
  griddepcontrol_launch_dependents();
  griddepcontrol_wait();  // the partials, and the plan that says where they lie
  const std::int32_t merge = blockIdx.x / query_tile, r = blockIdx.x % query_tile;
  if (merge >= plan.view.header->merges) return;  // a captured grid is for the largest plan
  PackedMerge m = plan.view.merges[merge];
  const std::int32_t height = m.rows.size();
  if (r >= height) return;
  // A merge of this row alone: its partials lie a tile's height apart.
  m.rows = {m.rows.begin + r, m.rows.begin + r + 1};
  m.first_slot += r;
  const Partials all{plan.partial_o, plan.partial_lse_log2, 0, height, m.num_partials};
  PartialMerge<mla_ckv, Threads, pieces>{stage}(m, all, [&](int row, int feature, SoftmaxState<float> state, float4 value) {
    write_output(rows, PackedRows{plan.pack}(m, row), feature, state, value);
  });
}

}  // namespace

void merge_mla(const MlaCall& call, const PackedShape& shape, const PackedParams& plan, cudaStream_t stream) {
  const LaunchShape launch_shape{.grid = shape.merges * shape.query_tile, .block = Threads::threads, .programmatic = true};
  launch(mla_merge_kernel, launch_shape, stream, call.rows, plan, shape.query_tile);
}

}  // namespace flashladder::gpu
