// RMSNorm of rows that are not made of 16-byte pieces, or that are too long for registers: a block reads its row once to sum
// and a second time to write, when it finds most of the row in the caches. Must equal reference/norm.cpp.
// grid   block b has rows b, b + blocks, ...      block  one row at a time      shared memory  two sums for each warp
#pragma once

#include "gpu/norm/norm_row.cuh"

namespace flashladder::gpu {

// What a thread moves at once: one element, or the eight of an aligned piece.
template <class Element>
struct OneElement {
  using Stored = Element;
  static constexpr int elements = 1;
  float at[1];
  __device__ static OneElement from(Element stored) { return {to_float(stored)}; }
  __device__ Element rounded() const { return from_float<Element>(at[0]); }
};
template <class Element>
struct EightElements : Float8 {
  using Stored = uint4;
  static constexpr int elements = 8;
  __device__ static EightElements from(uint4 stored) { return {to_floats<Element>(stored)}; }
  __device__ uint4 rounded() const { return pack<Element>(static_cast<const Float8&>(*this)); }
};

template <class Element, class Values, bool add, class Out>
__global__ void __launch_bounds__(1024)
rmsnorm_walk_kernel(const __grid_constant__ NormParams p, const __grid_constant__ Out out) {
  using Stored = typename Values::Stored;
  // Two of them, which rows use in turn: while one warp already sums the next row, others may still read the sums of this
  // one.
  __shared__ WarpSums sums[2];
  const auto row_of = [&](const NormRows& rows, std::uint32_t row) {
    return reinterpret_cast<Stored*>(static_cast<Element*>(rows.data) + offset(rows, row, p.num_heads));
  };
  const auto out_row = [&](std::uint32_t row) {
    if constexpr (Out::quantises) {
      using Bytes = typename BytesOf<Values::elements>::Type;
      return reinterpret_cast<Bytes*>(static_cast<std::uint8_t*>(p.out.data) + offset(p.out, row, p.num_heads));
    } else {
      return row_of(p.out, row);
    }
  };
  const auto* weight = static_cast<const Stored*>(p.weight);
  const int pieces = p.d / Values::elements;
  // The previous kernel on the stream may still write x, residual and a stored scale, or read out.
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
  int round = 0;
  for (std::uint32_t row = blockIdx.x; row < p.rows; row += gridDim.x, ++round) {
    // x and y may be the same row: a thread reads a piece for the last time just before it writes that piece.
    const Stored* x = row_of(p.input, row);
    auto* y = out_row(row);
    Stored* residual = add ? row_of(p.residual, row) : nullptr;
    const auto values_of = [&](int i) {
      Values values = Values::from(x[i]);
      if constexpr (add) {
        const Values other = Values::from(residual[i]);
#pragma unroll
        for (int e = 0; e < Values::elements; ++e) values.at[e] += other.at[e];
      }
      return values;
    };
    float squares = 0;
    for (int i = threadIdx.x; i < pieces; i += blockDim.x) {
      const Values values = values_of(i);
#pragma unroll
      for (float value : values.at) squares += value * value;
    }
    float mean = block_sum(squares, sums[round % 2]) * p.inverse_d + p.eps, power = 1;
    if (may_leave_range<Element> && !is_in_range(mean)) {  // the whole block (gpu/norm/norm_scale.cuh)
      float largest = 0;
      for (int i = threadIdx.x; i < pieces; i += blockDim.x) {
        const Values values = values_of(i);
#pragma unroll
        for (float value : values.at) largest = fmaxf(largest, fabsf(value));
      }
      power = power_for(block_largest(largest, sums[round % 2]), p.eps);
      squares = 0;
      for (int i = threadIdx.x; i < pieces; i += blockDim.x) {
        const Values values = values_of(i);
#pragma unroll
        for (float value : values.at) squares += value * power * (value * power);
      }
      mean = block_sum(squares, sums[round % 2]) * p.inverse_d + p.eps * power * power;
    }
    const float scale = norm_scale(mean);
    for (int i = threadIdx.x; i < pieces; i += blockDim.x) {
      Values values = values_of(i);
      const Values w = Values::from(weight[i]);
      if constexpr (add) residual[i] = values.rounded();  // the norm goes on with the sum that is not rounded
#pragma unroll
      for (int e = 0; e < Values::elements; ++e) values.at[e] = values.at[e] * power * scale * (w.at[e] + p.added);
      if constexpr (Out::quantises) {
        y[i] = quantised(values.at, out.scale(), out.e5m2);
      } else {
        y[i] = values.rounded();
      }
    }
  }
}

}  // namespace flashladder::gpu
