// Online softmax without a running maximum: a row's exponents are relative to a *stale reference*, the maximum of its first
// tile, for as long as that does no harm.
//
//   p = exp2(logit - reference),  sum += p,  o += p v            any reference gives the same o / sum
//
// The maximum is wanted only so that nothing overflows and what weighs most is not lost: a reference that is too low makes
// p large, one that is too high makes it small. The reference is never above the maximum of what was seen, so the largest p
// is at least 1. Too low it may become: if the p of a tile, those that one thread has of a row, sum up to more than 2^14
// (which also bounds each of them, so that f16 holds it), the row does its tile again: the reference becomes the maximum,
// and what was summed before is scaled to it. Scores are kept until then; P has registers of its own.
// (The idea that a maximum may lag: FlashAttention-4's conditional rescaling, arXiv:2603.05451. Here it is not even looked
// for.)
//
// A row whose first tile is masked has no maximum. Its reference is -1e30: whatever it sees first overflows, and is done
// again with a maximum. A row that never sees anything keeps sum = 0.
#pragma once

#include <cstdint>

#include "core/half.hpp"
#include "core/softmax_state.hpp"
#include "gpu/element.cuh"
#include "gpu/ptx/ex2.cuh"
#include "gpu/warp.cuh"

namespace flashladder::gpu {

// Of a thread of a warp group: its two rows (ptx/wgmma.cuh), of which it has every fourth pair of keys.
struct StaleSoftmax {
  static constexpr float no_reference = -1e30f, most = 16384.0f;  // 2^14
  float reference[2] = {no_reference, no_reference};  // in log2 units, of the whole row
  float sum[2] = {};                                  // of this thread's keys

  // p = exp2(s * scale - reference), rounded in pairs to A operands, of eights [from, to) of keys; adds to the sums of this
  // thread.
  template <class Element, int scores>
  __device__ void weights(const float (&s)[scores], int from, int to, float scale, std::uint32_t (&p)[scores / 2],
                          float2& total) const {
#pragma unroll
    for (int j = from; j < to; ++j) {
      const float a = exp2_approx(s[4 * j] * scale - reference[0]), b = exp2_approx(s[4 * j + 1] * scale - reference[0]);
      const float c = exp2_approx(s[4 * j + 2] * scale - reference[1]), d = exp2_approx(s[4 * j + 3] * scale - reference[1]);
      p[2 * j] = pack<Element>(a, b), p[2 * j + 1] = pack<Element>(c, d);
      total.x += a + b, total.y += c + d;
    }
  }

  // The maximum of row i over the four threads that share it.
  template <int keys>
  __device__ static float largest(const float (&s)[keys / 2], int i) {
    float m = SoftmaxState<float>::nothing, other = m;  // two, so that one need not wait for the other
#pragma unroll
    for (int j = 0; j < keys / 8; ++j) m = fmaxf(m, s[4 * j + 2 * i]), other = fmaxf(other, s[4 * j + 2 * i + 1]);
    m = fmaxf(m, other);
    m = fmaxf(m, __shfl_xor_sync(all_lanes, m, 1));
    return fmaxf(m, __shfl_xor_sync(all_lanes, m, 2));
  }

  // A row's first tile.
  template <class Element, int keys>
  __device__ void begin(const float (&s)[keys / 2], float scale, std::uint32_t (&p)[keys / 4]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float m = largest<keys>(s, i);
      reference[i] = m == SoftmaxState<float>::nothing ? no_reference : m * scale;
    }
    float2 total{};
    weights<Element>(s, 0, keys / 8, scale, p, total);
    sum[0] = total.x, sum[1] = total.y;
  }

  // A later tile. o: what earlier tiles summed up to. The first quarter of p is free; half() waits until half of it is,
  // rest() until all of it is, and o is complete.
  template <class Element, int keys, int values, class UntilHalf, class Rest>
  __device__ void absorb(const float (&s)[keys / 2], float scale, std::uint32_t (&p)[keys / 4], float (&o)[values],
                         const UntilHalf& half, const Rest& rest) {
    // Eights of keys whose p a quarter of a product's steps reads, and, less one for want of registers, half of them.
    constexpr int first = keys / 16 / 4 * 2, second = keys / 16 / 2 * 2 - 1;
    float2 total{};
    weights<Element>(s, 0, first, scale, p, total);
    half(total.x + total.y);
    weights<Element>(s, first, second, scale, p, total);
    rest(total.x + total.y);
    weights<Element>(s, second, keys / 8, scale, p, total);
    const bool over[2] = {!(total.x <= most), !(total.y <= most)};  // NaN too
    if (__any_sync(all_lanes, over[0] || over[1])) [[unlikely]] {
      raise<keys>(s, scale, over, o);
      total = {};
      weights<Element>(s, 0, keys / 8, scale, p, total);
    }
    sum[0] += total.x, sum[1] += total.y;
  }

  // Of row i: the state of its whole softmax.
  __device__ SoftmaxState<float> state(int i) const {
    float d = sum[i] + __shfl_xor_sync(all_lanes, sum[i], 1);
    d += __shfl_xor_sync(all_lanes, d, 2);
    return {d == 0 ? SoftmaxState<float>::nothing : reference[i], d};
  }

 private:
  // The rows of which a thread has an overflow get their maximum as reference. Rows decide for themselves: what a row comes
  // to does not depend on its neighbours.
  template <int keys, int values>
  __device__ void raise(const float (&s)[keys / 2], float scale, const bool (&over)[2], float (&o)[values]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const unsigned row = __ballot_sync(all_lanes, over[i]) >> (threadIdx.x % 32 / 4 * 4) & 0xfu;
      const float m = largest<keys>(s, i) * scale, raised = row == 0 ? reference[i] : fmaxf(reference[i], m);
      const float factor = exp2_approx(reference[i] - raised);
      reference[i] = raised;
      sum[i] *= factor;
#pragma unroll
      for (int j = 0; j < values / 4; ++j) o[4 * j + 2 * i] *= factor, o[4 * j + 2 * i + 1] *= factor;
    }
  }
};

}  // namespace flashladder::gpu
