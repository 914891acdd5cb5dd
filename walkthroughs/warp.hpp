// A warp on the CPU: 32 lanes in step, with a count of the instructions that it issues. What a kernel does with registers
// and shuffles is done here with arrays of 32, so that a chapter can print what each lane holds.
#pragma once

#include <array>
#include <cmath>
#include <span>

#include "core/softmax_state.hpp"

namespace flashladder::walkthroughs {

inline constexpr int warp_lanes = 32;
template <class T>
using Lanes = std::array<T, warp_lanes>;

// f(lane) in every lane.
template <class F>
auto each_lane(F f) {
  Lanes<decltype(f(0))> out{};
  for (int lane = 0; lane < warp_lanes; ++lane) out[lane] = f(lane);
  return out;
}

// Warp instructions by kind: each takes an issue slot of an SM's scheduler, whatever it does. Addresses are not counted.
struct Issued {
  int loads = 0, converts = 0, multiply_adds = 0, shuffles = 0, others = 0;
  int total() const { return loads + converts + multiply_adds + shuffles + others; }
};

using Features = Lanes<std::array<float, 8>>;  // 8 neighbouring features in each lane: 16 bytes of a token's K or V

// What gpu/decode/lane_group.cuh keeps of one packed query row, step by step the same.
struct LaneRow {
  Features q{}, o{};
  Lanes<SoftmaxState<float>> state{};
};

class Warp {
 public:
  explicit Warp(int head_dim) : lanes_(head_dim / 8) {}
  int lanes() const { return lanes_; }                          // of a token
  int tokens() const { return warp_lanes / lanes_; }            // at once
  int lane_in_token(int lane) const { return lane % lanes_; }
  int token_of(int lane) const { return lane / lanes_; }
  const Issued& issued() const { return issued_; }

  Lanes<float> shuffle_xor(const Lanes<float>& x, int offset) {
    ++issued_.shuffles;
    return each_lane([&](int lane) { return x[lane ^ offset]; });
  }
  void load() { ++issued_.loads, issued_.converts += 8; }  // 16 bytes a lane, to be used as 8 floats

  // Each lane's part of q . k, not summed over lanes yet.
  Lanes<float> partial_dot(const LaneRow& row, const Features& key) {
    issued_.multiply_adds += 8;
    return each_lane([&](int lane) {
      float sum = 0;
      for (int i = 0; i < 8; ++i) sum += row.q[lane][i] * key[lane][i];
      return sum;
    });
  }
  // ... and summed: after log2(lanes) exchanges every lane of the token has the whole.
  Lanes<float> dot(const LaneRow& row, const Features& key) {
    Lanes<float> sum = partial_dot(row, key);
    for (int offset = lanes_ / 2; offset > 0; offset /= 2) {
      const Lanes<float> other = shuffle_xor(sum, offset);
      sum = each_lane([&](int lane) { return sum[lane] + other[lane]; });
      ++issued_.others;
    }
    return sum;
  }
  // A few tokens of each lane group join the row: x are their logits (log2 units), nothing where there is no token.
  void absorb(LaneRow& row, std::span<const Lanes<float>> x, std::span<const Features> values) {
    const auto n = static_cast<int>(x.size());
    issued_.multiply_adds += 8 + 8 * n;  // o * rescale, o + weight * v
    issued_.others += 4 * n + 3;         // of a token: max, weight (2), d; once: rescale (2), d * rescale
    for (int lane = 0; lane < warp_lanes; ++lane) {
      SoftmaxState<float> now{row.state[lane].m, 0};
      for (const Lanes<float>& logits : x) now.m = std::fmax(now.m, logits[lane]);
      const float rescale = SoftmaxState<float>::weight(row.state[lane].m, now.m);
      for (float& o : row.o[lane]) o *= rescale;
      for (int u = 0; u < n; ++u) {
        const float weight = SoftmaxState<float>::weight(x[u][lane], now.m);
        now.d += weight;
        for (int i = 0; i < 8; ++i) row.o[lane][i] += weight * values[u][lane][i];
      }
      row.state[lane] = {now.m, row.state[lane].d * rescale + now.d};
    }
  }
  // The lane groups become one: afterwards each holds the state of all.
  void merge_groups(LaneRow& row) {
    for (int offset = lanes_; offset < warp_lanes; offset *= 2) {
      const LaneRow before = row;
      for (int lane = 0; lane < warp_lanes; ++lane) {
        const MergeWeights<float> w = merge(row.state[lane], before.state[lane ^ offset]);
        for (int i = 0; i < 8; ++i) row.o[lane][i] = before.o[lane][i] * w.a + before.o[lane ^ offset][i] * w.b;
      }
    }
  }

 private:
  int lanes_;
  Issued issued_;
};

}  // namespace flashladder::walkthroughs
