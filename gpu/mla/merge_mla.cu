// The partials of cut tiles become rows.
// grid   blocks enough to fill the GPU; those of a merge share its rows      block  four warps, each of 128 features: a row
// A row of few partials is a block's: a warp has a quarter of its features. A row of many, as one long request of few heads
// has, is four blocks': each has a quarter of its features, and its warps divide the partials. Four states and sums of
// values are left then, and joined (core/softmax_state.hpp). Who adds what in which order depends on the number of partials.
//
// Not at the end of the kernel before, as D6 has it: the last CTA to arrive would read 64 rows of up to a hundred partials of
// 2 KB each through one SM, which takes longer than a launch. The launch is the barrier; the plan's records are asked for
// before it, and the loops are short, since their instructions come from memory the first time.
#include <algorithm>

#include "gpu/attention/packed_work.cuh"
#include "gpu/attention/write_row.cuh"
#include "gpu/launch.hpp"
#include "gpu/mla/mla.hpp"
#include "gpu/ptx/ex2.cuh"
#include "gpu/ptx/griddepcontrol.cuh"
#include "gpu/warp.cuh"
#include "gpu/warp_reduce.cuh"

namespace flashladder::gpu {
namespace {

constexpr int warps = 4, threads = 32 * warps;
constexpr int quarter = mla_ckv / warps;  // features of a warp, four of each lane
constexpr std::int32_t few = 16;          // partials of a row that one warp adds alone
constexpr int at_once = 8;                // partials that a warp has on their way
// All blocks run at once: those that waited until others had ended would double the time of all. So many are resident where a
// thread has 64 registers.
constexpr std::int64_t blocks_per_sm = 8;

// 2^(from - to), where "nothing" weighs nothing.
__device__ float weight(float from, float to) { return from == SoftmaxState<float>::nothing ? 0 : exp2_approx(from - to); }

// What a lane has of a row: the state is the same in all lanes of a warp.
struct Sum {
  SoftmaxState<float> state;
  float4 value{};

  __device__ void scale(float by) { value = {value.x * by, value.y * by, value.z * by, value.w * by}; }
  __device__ void add(float4 o, float weight) {
    value = {fmaf(o.x, weight, value.x), fmaf(o.y, weight, value.y), fmaf(o.z, weight, value.z), fmaf(o.w, weight, value.w)};
  }
  __device__ void join(const SoftmaxState<float>& other, float4 of_other) {
    const MergeWeights<float> weights = merge(state, other);
    scale(weights.a);
    add(of_other, weights.b);
  }
};

// Some of a row's partials: every step-th, so many features of each. Around L1, which does not know what other SMs wrote.
struct RowPartials {
  const float *o, *lse_log2;  // of the first
  std::int64_t step;          // in partial rows
  std::int32_t count;

  __device__ float4 value(std::int32_t i) const {
    return i < count ? __ldcg(reinterpret_cast<const float4*>(o + i * step * mla_ckv)) : float4{};
  }
  __device__ float lse(std::int32_t i) const { return i < count ? __ldcg(lse_log2 + i * step) : SoftmaxState<float>::nothing; }

  // By a warp. Of so many partials as are on their way, lane i weighs the i-th.
  __device__ Sum sum() const {
    Sum sum;
    for (std::int32_t begin = 0; begin < count; begin += at_once) {
      const float mine = lse(begin + static_cast<std::int32_t>(threadIdx.x % at_once));
      float4 now[at_once];
#pragma unroll
      for (int i = 0; i < at_once; ++i) now[i] = value(begin + i);
      const float before = sum.state.m;
      sum.state.m = fmaxf(before, warp_max(mine));
      const float factor = weight(before, sum.state.m), of_lane = weight(mine, sum.state.m);
      sum.state.d *= factor;
      sum.scale(factor);
#pragma unroll
      for (int i = 0; i < at_once; ++i) {
        const float of_this = __shfl_sync(all_lanes, of_lane, i);
        sum.state.d += of_this;
        sum.add(now[i], of_this);
      }
    }
    return sum;
  }
};

// Row r of merge m, or, of many partials, a quarter of it. All threads.
__device__ void merge_row(const QueryRows& rows, const PackedParams& plan, const PackedMerge& m, std::int32_t r, int number) {
  __shared__ float4 values[warps][32];
  __shared__ SoftmaxState<float> states[warps];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const bool many = m.num_partials > few;
  const int feature = (many ? number : warp) * quarter + lane * 4;
  const std::int32_t first = many ? warp : 0, step = many ? warps : 1, height = m.rows.size();
  const std::int64_t slot = m.first_slot + std::int64_t{first} * height + r;
  const RowPartials mine{plan.partial_o + slot * mla_ckv + feature, plan.partial_lse_log2 + slot, std::int64_t{step} * height,
                         div_up(m.num_partials - first, step)};
  Sum sum = mine.sum();
  if (many) {
    values[warp][lane] = sum.value;
    if (lane == 0) states[warp] = sum.state;
    __syncthreads();  // all warps' sums are there
    if (warp == 0) {
      for (int w = 1; w < warps; ++w) sum.join(states[w], values[w][lane]);
    }
    __syncthreads();  // they have been read: the next row may write its own
    if (warp > 0) return;
  }
  write_output(rows, PackedRows{plan.pack}(m, r), feature, sum.state, sum.value);
}

// Merge i of the plan, in shared memory, where its fields take no registers. All threads.
__device__ void load_merge(const PackedParams& plan, std::int32_t i, PackedMerge& to) {
  constexpr unsigned parts = sizeof(PackedMerge) / sizeof(uint4);
  __syncthreads();  // nobody reads the one before any more
  const auto* from = reinterpret_cast<const uint4*>(plan.view.merges + i);
  if (threadIdx.x < parts) reinterpret_cast<uint4*>(&to)[threadIdx.x] = from[threadIdx.x];
  __syncthreads();  // it is there
}

__global__ void __launch_bounds__(threads, blocks_per_sm)
mla_merge_kernel(const __grid_constant__ QueryRows rows, const __grid_constant__ PackedParams plan) {
  __shared__ __align__(16) PackedMerge m;
  griddepcontrol_launch_dependents();
  // The plan has been there since the kernel before passed its own wait, behind which it let this one start.
  const auto block = static_cast<std::int32_t>(blockIdx.x), blocks = static_cast<std::int32_t>(gridDim.x);
  const std::int32_t merges = plan.view.header->merges;  // a captured grid is for the largest plan
  const std::int32_t each = max(1, blocks / max(1, merges));
  std::int32_t i = block / each;
  if (i < merges) load_merge(plan, i, m);
  griddepcontrol_wait();  // the partials; and whoever waits for this kernel waits for the one before too
  while (i < merges) {
    const int shares = m.num_partials > few ? warps : 1;
    for (std::int32_t u = block % each; u < m.rows.size() * shares; u += each) merge_row(rows, plan, m, u / shares, u % shares);
    i += blocks / each;
    if (i < merges) load_merge(plan, i, m);
  }
}

}  // namespace

void merge_mla(const MlaCall& call, const PackedShape& shape, const PackedParams& plan, cudaStream_t stream) {
  const std::int64_t quarters_of_rows = shape.merges * shape.query_tile * warps;
  const LaunchShape launch_shape{.grid = std::min(quarters_of_rows, blocks_per_sm * multiprocessors()), .block = threads,
                                 .programmatic = true};
  launch(mla_merge_kernel, launch_shape, stream, call.rows, plan);
}

}  // namespace flashladder::gpu
