// merge_state and merge_state_in_place: two states become one. Must equal reference/merge_states.cpp.
// grid   blocks of (row, head) pairs      block  pair x lane, a lane has `width` features      no shared memory
#include "core/op_checks.hpp"
#include "core/softmax_state.hpp"
#include "gpu/arguments.hpp"
#include "gpu/device.hpp"
#include "gpu/launch.hpp"
#include "gpu/merge/merge_params.hpp"
#include "gpu/merge/merge_states.hpp"
#include "gpu/merge/merge_values.cuh"
#include "gpu/ptx/griddepcontrol.cuh"

namespace flashladder::gpu {
namespace {

struct PairParams {
  StateRows a{}, b{}, out{};
  const std::uint8_t* mask = nullptr;  // [rows], or nullptr: every row
  std::int32_t rows = 0, num_heads = 0, head_dim = 0;
};

template <int width>
__global__ void __launch_bounds__(256)
merge_state_kernel(const __grid_constant__ PairParams p, const __grid_constant__ MergeShape shape) {
  const std::int64_t pair = std::int64_t{blockIdx.x} * shape.pairs + threadIdx.x / shape.lanes;
  const std::int32_t lane = threadIdx.x % shape.lanes;
  const auto row = static_cast<std::int32_t>(pair / p.num_heads), head = static_cast<std::int32_t>(pair % p.num_heads);
  griddepcontrol_wait();  // the previous kernel on the stream may still write both states, or read the output
  griddepcontrol_launch_dependents();
  const bool mine = row < p.rows && (p.mask == nullptr || p.mask[row] != 0);
  SoftmaxState<float> state, other;
  if (mine) {
    state = SoftmaxState<float>::from_lse_log2(p.a.s[row * p.a.s_row + head * p.a.s_head]);
    other = SoftmaxState<float>::from_lse_log2(p.b.s[row * p.b.s_row + head * p.b.s_head]);
  }
  __syncthreads();  // every lane has read s before one of them overwrites it, where the output is an input
  if (!mine) return;
  const bool no_a = state.d == 0, no_b = other.d == 0;  // has seen no key: its v may be NaN and must not be multiplied
  const MergeWeights<float> weights = merge(state, other);
  const float inverse_d = state.inverse_d();
  for (std::int32_t i = lane * width; i < p.head_dim; i += shape.lanes * width) {
    const auto a = load_values<width>(p.a.v, p.a.dtype, row * p.a.v_row + head * p.a.v_head + i);
    const auto b = load_values<width>(p.b.v, p.b.dtype, row * p.b.v_row + head * p.b.v_head + i);
    Values<width> o;
#pragma unroll
    for (int x = 0; x < width; ++x) {
      o.at[x] = ((no_a ? 0 : a.at[x]) * weights.a + (no_b ? 0 : b.at[x]) * weights.b) * inverse_d;
    }
    store_values(p.out.v, p.out.dtype, row * p.out.v_row + head * p.out.v_head + i, o);
  }
  if (lane == 0) p.out.s[row * p.out.s_row + head * p.out.s_head] = state.lse_log2();
}

void launch_pair(const PairParams& p, bool vector, cudaStream_t stream, bool enable_pdl) {
  const std::int64_t rows_and_heads = std::int64_t{p.rows} * p.num_heads;
  const MergeShape shape = merge_shape(rows_and_heads, 2, p.head_dim, vector, multiprocessors());
  launch(vector ? merge_state_kernel<4> : merge_state_kernel<1>,
         {.grid = shape.blocks(rows_and_heads), .block = shape.threads(), .programmatic = enable_pdl}, stream, p, shape);
}

PairParams pair_params(const ConstTensor& v_a, const ConstTensor& s_a, const ConstTensor& v_b, const ConstTensor& s_b,
                       const Tensor& v_out, const Tensor& s_out) {
  require_int32_shape("v_a", v_a);
  return {.a = state_rows(v_a, s_a), .b = state_rows(v_b, s_b), .out = state_rows(v_out, s_out),
          .rows = static_cast<std::int32_t>(v_a.shape[0]), .num_heads = static_cast<std::int32_t>(v_a.shape[1]),
          .head_dim = static_cast<std::int32_t>(v_a.shape[2])};
}

}  // namespace

void merge_state(const ConstTensor& v_a, const ConstTensor& s_a, const ConstTensor& v_b, const ConstTensor& s_b,
                 const Tensor& v_out, const Tensor& s_out, cudaStream_t stream, bool enable_pdl) {
  check_merge_state(v_a, s_a, v_b, s_b, v_out, s_out);
  const bool vector = is_vector(v_a) && is_vector(v_b) && is_vector(v_out);
  launch_pair(pair_params(v_a, s_a, v_b, s_b, v_out, s_out), vector, stream, enable_pdl);
}

void merge_state_in_place(const Tensor& v, const Tensor& s, const ConstTensor& v_other, const ConstTensor& s_other,
                          std::span<const std::uint8_t> mask, cudaStream_t stream, bool enable_pdl) {
  check_merge_state_in_place(v, s, v_other, s_other, mask);
  PairParams p = pair_params(v, s, v_other, s_other, v, s);
  if (!mask.empty()) p.mask = mask.data();
  launch_pair(p, is_vector(v) && is_vector(v_other), stream, enable_pdl);
}

}  // namespace flashladder::gpu
