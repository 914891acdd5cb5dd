// Online softmax with a running maximum, as P2 to P5 have it, on the accumulators of wgmma: a thread has two rows, and of
// each every fourth pair of keys (ptx/wgmma.cuh).
//
// Three steps a tile, since they need different things: weigh() only the scores, which it overwrites; round() the registers
// of P, which the products before must have read; rescale() the sums so far, which those products must have finished.
#pragma once

#include <cstdint>

#include "core/softmax_state.hpp"
#include "gpu/element.cuh"
#include "gpu/ptx/ex2.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

struct RunningSoftmax {
  float m[2] = {SoftmaxState<float>::nothing, SoftmaxState<float>::nothing};  // of the whole row, in log2 units
  float sum[2] = {};     // of exp2(logit - m), of this thread's keys
  float factor[2] = {};  // exp2 of the maximum before, less this one: what was summed before is worth so much

  // s becomes exp2(s * scale - m), m the maximum with this tile. A scale of 0 or more.
  template <int scores>
  __device__ void weigh(float (&s)[scores], float scale) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float most = SoftmaxState<float>::nothing;
#pragma unroll
      for (int j = 0; j < scores / 4; ++j) most = fmaxf(most, fmaxf(s[4 * j + 2 * i], s[4 * j + 2 * i + 1]));
      most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 1));  // four threads share a row
      most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 2));
      most = fmaxf(m[i], most * scale);
      // A row that has seen nothing yet: -inf - -inf would be NaN.
      const float base = most == SoftmaxState<float>::nothing ? 0 : most;
      factor[i] = exp2_approx(m[i] - base);
      m[i] = most;
      float total = 0;
#pragma unroll
      for (int j = 0; j < scores / 4; ++j) {
        float &a = s[4 * j + 2 * i], &b = s[4 * j + 2 * i + 1];
        a = exp2_approx(fmaf(a, scale, -base)), b = exp2_approx(fmaf(b, scale, -base));
        total += a + b;
      }
      sum[i] = sum[i] * factor[i] + total;
    }
  }

  // P, not normalised, as A operands of the next product.
  template <class Element, int scores>
  __device__ static void round(const float (&s)[scores], std::uint32_t (&p)[scores / 2]) {
#pragma unroll
    for (int j = 0; j < scores / 2; ++j) p[j] = pack<Element>(s[2 * j], s[2 * j + 1]);
  }

  template <int values>
  __device__ void rescale(float (&o)[values]) const {
#pragma unroll
    for (int j = 0; j < values; ++j) o[j] *= factor[j / 2 % 2];
  }

  // Of row i: the state of its whole softmax.
  __device__ SoftmaxState<float> state(int i) const {
    float d = sum[i] + __shfl_xor_sync(all_lanes, sum[i], 1);
    d += __shfl_xor_sync(all_lanes, d, 2);
    return {m[i], d};
  }
};

}  // namespace flashladder::gpu
