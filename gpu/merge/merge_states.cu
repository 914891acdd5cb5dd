// merge_states and variable_length_merge_states: any number of states become one. Must equal reference/merge_states.cpp.
// grid   blocks of (row, head) pairs      block  pair x way x lane      shared memory  the ways' results
// Each thread has the loads of four states in flight. Where rows are few and states many, several groups of threads (ways)
// share the states of a row: each way merges a run of them in slot order, and the first way then merges the runs, in slot
// order too.
#include <algorithm>

#include "core/checks.hpp"
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

constexpr int most_threads = 512, in_flight = 4;

struct StatesParams {
  StateRows in{}, out{};                    // in: v_row and s_row from row to row
  std::int64_t v_state = 0, s_state = 0;    // from state to state of a row
  const std::int32_t* indptr = nullptr;     // [rows + 1]: the states of a row; nullptr: 0 .. num_states - 1
  std::int32_t num_states = 0, rows = 0, num_heads = 0, head_dim = 0;
  float lse_factor = 1;  // s_out is multiplied by it
  const std::int32_t* num_rows = nullptr;   // so many of the rows, the first ones; nullptr: all
};

template <int width>
struct Merged {
  SoftmaxState<float> state;
  Values<width> o = {};  // not divided by state.d yet

  // o_next belongs to `next`. If that state has seen nothing, o_next may be NaN and must not be multiplied.
  __device__ void add(SoftmaxState<float> next, const Values<width>& o_next) {
    const bool nothing = next.d == 0;
    const MergeWeights<float> weights = merge(state, next);
#pragma unroll
    for (int x = 0; x < width; ++x) o.at[x] = o.at[x] * weights.a + (nothing ? 0 : o_next.at[x]) * weights.b;
  }
};

// States begin .. end - 1, in order; v and s point to state 0.
template <class Element, int width>
__device__ Merged<width> merge_run(const StatesParams& p, const Element* v, const float* s, std::int32_t begin,
                                   std::int32_t end) {
  Merged<width> merged;
  for (std::int32_t first = begin; first < end; first += in_flight) {
    Stored<Element, width> o[in_flight];
    float lse_log2[in_flight];
#pragma unroll
    for (int u = 0; u < in_flight; ++u) {
      const std::int32_t state = min(first + u, end - 1);  // beyond the end, the last one is loaded again and not added
      lse_log2[u] = s[state * p.s_state];
      o[u] = load_stored<Element, width>(v, state * p.v_state);
    }
#pragma unroll
    for (int u = 0; u < in_flight; ++u) {
      if (first + u < end) merged.add(SoftmaxState<float>::from_lse_log2(lse_log2[u]), to_values(o[u]));
    }
  }
  return merged;
}

// Two blocks an SM: without the 2 ptxas aims at three, which leaves too few registers, and spills.
template <class Element, int width>
__global__ void __launch_bounds__(most_threads, 2)
merge_states_kernel(const __grid_constant__ StatesParams p, const __grid_constant__ MergeShape shape) {
  __shared__ Merged<width> runs[most_threads];  // [pair, way, lane]: where ways join
  const std::int32_t lane = threadIdx.x % shape.lanes, way = threadIdx.x / shape.lanes % shape.ways;
  const std::int64_t pair = std::int64_t{blockIdx.x} * shape.pairs + threadIdx.x / (shape.lanes * shape.ways);
  const std::int64_t row = pair / p.num_heads, head = pair % p.num_heads;
  griddepcontrol_wait();  // the previous kernel on the stream may still write the states, or read the output
  griddepcontrol_launch_dependents();
  const bool mine = row < p.rows && (p.num_rows == nullptr || row < *p.num_rows);
  const std::int32_t begin = !mine || p.indptr == nullptr ? 0 : p.indptr[row];
  const std::int32_t states = !mine ? 0 : p.indptr == nullptr ? p.num_states : p.indptr[row + 1] - begin;
  const auto run_begin = static_cast<std::int32_t>(begin + std::int64_t{states} * way / shape.ways);
  const auto run_end = static_cast<std::int32_t>(begin + std::int64_t{states} * (way + 1) / shape.ways);
  const float* s = p.in.s + row * p.in.s_row + head * p.in.s_head;
  for (std::int32_t first = 0; first < p.head_dim; first += shape.lanes * width) {
    const std::int32_t i = first + lane * width;
    const bool has = mine && i < p.head_dim;
    Merged<width> merged;
    if (has) {
      const Element* v = static_cast<const Element*>(p.in.v) + row * p.in.v_row + head * p.in.v_head + i;
      merged = merge_run<Element, width>(p, v, s, run_begin, run_end);
    }
    if (shape.ways > 1) {
      runs[threadIdx.x] = merged;
      __syncthreads();  // every way has written its run before the first way reads them
      for (std::int32_t w = 1; way == 0 && w < shape.ways; ++w) {
        const Merged<width>& run = runs[threadIdx.x + w * shape.lanes];
        merged.add(run.state, run.o);
      }
      __syncthreads();  // the first way has read the runs before those of the next features overwrite them
    }
    if (!has || way != 0) continue;
    const float inverse_d = merged.state.inverse_d();
#pragma unroll
    for (float& o : merged.o.at) o *= inverse_d;
    store_values(p.out.v, p.out.dtype, row * p.out.v_row + head * p.out.v_head + i, merged.o);
    if (i == 0) p.out.s[row * p.out.s_row + head * p.out.s_head] = merged.state.lse_log2() * p.lse_factor;
  }
}

template <class Element>
void launch_states(const StatesParams& p, std::int64_t states, bool vector, cudaStream_t stream, bool enable_pdl) {
  const std::int64_t rows_and_heads = std::int64_t{p.rows} * p.num_heads;
  const MergeShape shape = merge_shape(rows_and_heads, states, p.head_dim, vector, multiprocessors());
  launch(vector ? merge_states_kernel<Element, 4> : merge_states_kernel<Element, 1>,
         {.grid = shape.blocks(rows_and_heads), .block = shape.threads(), .programmatic = enable_pdl}, stream, p, shape);
}

void launch_states(StatesParams p, const ConstTensor& v, const Tensor& v_out, const Tensor& s_out, std::int64_t states,
                   cudaStream_t stream, bool enable_pdl) {
  require_int32_shape("v", v);
  require_int32_shape("v_out", v_out);
  p.out = state_rows(v_out, s_out);
  p.rows = static_cast<std::int32_t>(v_out.shape[0]);
  p.num_heads = static_cast<std::int32_t>(v_out.shape[1]);
  p.head_dim = static_cast<std::int32_t>(v_out.shape[2]);
  const bool vector = is_vector(v) && is_vector(v_out);
  if (v.dtype == DType::f32) return launch_states<float>(p, states, vector, stream, enable_pdl);
  if (v.dtype == DType::f16) return launch_states<Half>(p, states, vector, stream, enable_pdl);
  launch_states<BFloat16>(p, states, vector, stream, enable_pdl);
}

}  // namespace

void merge_states(const ConstTensor& v, const ConstTensor& s, const Tensor& v_out, const Tensor& s_out,
                  cudaStream_t stream, bool enable_pdl, float lse_factor, const std::int32_t* num_rows) {
  check_merge_states(v, s, v_out, s_out);
  const StatesParams p{.in = state_rows(v, s, 2), .v_state = v.strides[1], .s_state = s.strides[1],
                       .num_states = static_cast<std::int32_t>(v.shape[1]), .lse_factor = lse_factor,
                       .num_rows = num_rows};
  launch_states(p, v, v_out, s_out, v.shape[1], stream, enable_pdl);
}

void variable_length_merge_states(const ConstTensor& v, const ConstTensor& s, std::span<const std::int32_t> indptr,
                                  const Tensor& v_out, const Tensor& s_out, cudaStream_t stream, bool enable_pdl) {
  check_variable_length_merge_states(v, s, indptr, v_out, s_out);
  StatesParams p{.in = state_rows(v, s), .v_state = v.strides[0], .s_state = s.strides[0], .indptr = indptr.data()};
  p.in.v_row = p.in.s_row = 0;  // a row's states are counted from the first of all
  launch_states(p, v, v_out, s_out, v.shape[0] / std::max<std::int64_t>(v_out.shape[0], 1), stream, enable_pdl);
}

}  // namespace flashladder::gpu
