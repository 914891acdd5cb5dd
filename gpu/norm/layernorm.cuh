// LayerNorm in two passes over a row: the mean, then the squares of the differences from it. Must equal
// reference/layernorm.cpp. The second pass is over registers, where the row has stayed, or reads the row again from the
// caches: the shortcut of one pass, mean of x^2 minus mean^2, has no digits left where the mean is large.
//   layernorm_row_kernel    a row stays in the registers of its lanes; lanes and rows lie as in gpu/norm/norm_row.cuh
//   layernorm_walk_kernel   any row, element by element, a block for one row after the other
// Both add up x - x_0, x_0 being the row's first element. Equal elements so leave exact zeros, and an offset that all
// elements share costs no digits. What is lost: the mean is off by (chain + 3) u of the mean of |x - x_0|, at most 1 + sqrt(d)
// standard deviations (x_0 a lone outlier). u = 2^-24; chain is how many floats are added one after the other, about 50.
// shared memory  two sums for each warp (row: only where a block has a row)
// Tensors: x [rows, d] f16 or bf16; y as x, or (an OutQuantiser) fp8; gamma, beta [d], f32 or as x.
#pragma once

#include "gpu/norm/norm_row.cuh"

namespace flashladder::gpu {

struct LayerNormParams {
  NormParams norm{};           // of which weight is gamma
  const void* beta = nullptr;  // [d]
  bool f32_weights = false;    // gamma and beta are f32
};

// Of a row times a power of two: x_0, the mean of x - x_0, and 1 / sqrt(variance + eps).
struct RowMoments {
  float power, first, mean, scale;

  __device__ float difference(float x) const { return x * power - first - mean; }  // from the row's mean
  __device__ float normalised(float x) const { return difference(x) * scale; }
};

// sum_over_row(of) is the sum of of(x) over the row, and largest() the largest |x|, the same in all of the row's threads.
// redo(again): does any thread that takes part in these sums want another? Then all sum again, and a row for which `again` is
// false gets what it had.
template <class Element, class SumOverRow, class Largest, class Redo>
__device__ RowMoments row_moments(const NormParams& p, float first, const SumOverRow& sum_over_row, const Largest& largest,
                                  const Redo& redo) {
  RowMoments m;
  float variance;
  const auto measure = [&](float power) {
    m = {power, first * power, 0, 0};  // of mean 0 a difference is x - x_0
    m.mean = sum_over_row([&](float x) { return m.difference(x); }) * p.inverse_d;
    const float squares = sum_over_row([&](float x) { return m.difference(x) * m.difference(x); });
    variance = squares * p.inverse_d + p.eps * power * power;
  };
  measure(1);
  if constexpr (may_leave_range<Element>) {  // gpu/norm/norm_scale.cuh; a sum leaves the range only where squares do
    const bool again = !is_in_range(variance);
    if (redo(again)) {
      const float most = largest();
      measure(again ? power_for(most, p.eps) : 1);
    }
  }
  m.scale = norm_scale(variance);
  return m;
}

// Piece i of gamma or beta: eight elements.
template <class Element>
__device__ Float8 weights_of_piece(const void* weights, bool f32, int i) {
  if (!f32) return to_floats<Element>(static_cast<const uint4*>(weights)[i]);
  const float4 a = static_cast<const float4*>(weights)[2 * i], b = static_cast<const float4*>(weights)[2 * i + 1];
  return {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
}

constexpr int layernorm_chunks = 4;  // pieces of 16 bytes that a lane holds at most

// wide: a row has all lanes of a block, else a part of a warp (a power of two).
template <class Element, bool wide, class Out>
__global__ void __launch_bounds__(most_norm_threads(wide))
layernorm_row_kernel(const __grid_constant__ LayerNormParams all, int lanes, Out out) {
  __shared__ WarpSums sums[2];
  const NormParams& p = all.norm;
  const int group = wide ? 0 : threadIdx.x / lanes, lane = static_cast<int>(threadIdx.x) - group * lanes;
  const std::uint32_t row = blockIdx.x * (wide ? 1 : blockDim.x / lanes) + group;
  const bool there = wide || row < p.rows;
  const auto has = [&](int c) { return there && (lane + c * lanes) * 8 < p.d; };
  griddepcontrol_wait();  // the previous kernel on the stream may still write x, gamma and beta, or read out
  griddepcontrol_launch_dependents();
  const Element* x = static_cast<const Element*>(p.input.data) + offset(p.input, row, p.num_heads);
  const float first = there ? to_float(x[0]) : 0;  // in every lane, before the sums, after which out may be written over x
  uint4 pieces[layernorm_chunks];
#pragma unroll
  for (int c = 0; c < layernorm_chunks; ++c) {
    pieces[c] = has(c) ? reinterpret_cast<const uint4*>(x)[lane + c * lanes] : uint4{};
  }

  int turn = 0;  // sums in turn: while one warp already writes the next ones, others may still read the last
  const auto sum_over_row = [&](const auto& of) {
    float sum = 0;
#pragma unroll
    for (int c = 0; c < layernorm_chunks; ++c) {
      if (!has(c)) continue;  // beyond the row there are zeros, which are no elements: they lie x_0 away from x_0
#pragma unroll
      for (float value : to_floats<Element>(pieces[c]).at) sum += of(value);
    }
    if constexpr (wide) {
      sum = block_sum(sum, sums[turn++ % 2]);
    } else {
      for (int distance = lanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(all_lanes, sum, distance);
    }
    return sum;
  };
  const auto largest = [&] {
    float most = 0;
#pragma unroll
    for (const uint4& piece : pieces) {
#pragma unroll
      for (float value : to_floats<Element>(piece).at) most = fmaxf(most, fabsf(value));
    }
    if constexpr (wide) {
      most = block_largest(most, sums[0]);
    } else {
      for (int distance = lanes / 2; distance > 0; distance /= 2) {
        most = fmaxf(most, __shfl_xor_sync(all_lanes, most, distance));
      }
    }
    return most;
  };
  const auto redo = [](bool again) { return wide ? again : __any_sync(all_lanes, again); };
  const RowMoments m = row_moments<Element>(p, first, sum_over_row, largest, redo);

  const std::int64_t begin = offset(p.out, row, p.num_heads);
  float out_scale = 1;
  if constexpr (Out::quantises) out_scale = out.scale();
#pragma unroll
  for (int c = 0; c < layernorm_chunks; ++c) {
    if (!has(c)) continue;
    const int i = lane + c * lanes;
    const Float8 gamma = weights_of_piece<Element>(p.weight, all.f32_weights, i);
    const Float8 beta = weights_of_piece<Element>(all.beta, all.f32_weights, i);
    Float8 values = to_floats<Element>(pieces[c]);
#pragma unroll
    for (int e = 0; e < 8; ++e) values.at[e] = m.normalised(values.at[e]) * gamma.at[e] + beta.at[e];
    if constexpr (Out::quantises) {
      reinterpret_cast<uint2*>(static_cast<std::uint8_t*>(p.out.data) + begin)[i] = quantised(values.at, out_scale, out.e5m2);
    } else {
      reinterpret_cast<uint4*>(static_cast<Element*>(p.out.data) + begin)[i] = pack<Element>(values);
    }
  }
}

template <class Element, class Out>
__global__ void __launch_bounds__(1024) layernorm_walk_kernel(const __grid_constant__ LayerNormParams all, Out out) {
  __shared__ WarpSums sums[2];
  const NormParams& p = all.norm;
  const auto weight = [&](const void* weights, int i) {
    return all.f32_weights ? static_cast<const float*>(weights)[i] : to_float(static_cast<const Element*>(weights)[i]);
  };
  griddepcontrol_wait();  // the previous kernel on the stream may still write x, gamma and beta, or read out
  griddepcontrol_launch_dependents();
  int turn = 0;
  float out_scale = 1;
  if constexpr (Out::quantises) out_scale = out.scale();
  for (std::uint32_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    // x and y may be the same row: x_0 is read before the first sum, and any other element last by the thread that then
    // writes it.
    const Element* x = static_cast<const Element*>(p.input.data) + offset(p.input, row, p.num_heads);
    const std::int64_t begin = offset(p.out, row, p.num_heads);
    const auto each = [&](const auto& work) {
      for (int i = static_cast<int>(threadIdx.x); i < p.d; i += static_cast<int>(blockDim.x)) work(i);
    };
    const auto sum_over_row = [&](const auto& of) {
      float sum = 0;
      each([&](int i) { sum += of(to_float(x[i])); });
      return block_sum(sum, sums[turn++ % 2]);
    };
    const auto largest = [&] {
      float most = 0;
      each([&](int i) { most = fmaxf(most, fabsf(to_float(x[i]))); });
      return block_largest(most, sums[0]);
    };
    const RowMoments m =
        row_moments<Element>(p, to_float(x[0]), sum_over_row, largest, [](bool again) { return again; });
    each([&](int i) {
      const float y = m.normalised(to_float(x[i])) * weight(p.weight, i) + weight(all.beta, i);
      if constexpr (Out::quantises) {
        const float one[] = {y};
        static_cast<std::uint8_t*>(p.out.data)[begin + i] = quantised(one, out_scale, out.e5m2);
      } else {
        static_cast<Element*>(p.out.data)[begin + i] = from_float<Element>(y);
      }
    });
  }
}

}  // namespace flashladder::gpu
