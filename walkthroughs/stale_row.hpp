// A row's softmax as P11 does it (gpu/prefill/stale_softmax.cuh), in f32 on the CPU: exponents relative to a stale
// reference. Beside it the same with a running maximum. P is rounded to f16, as the tensor cores get it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <vector>

#include "core/half.hpp"
#include "core/softmax_state.hpp"

namespace flashladder::walkthroughs {

struct RowRule {
  float no_reference = -1e30f;  // of a row whose first tile is masked
  float most = 16384;           // 2^14, of the sum that one of the row's four threads has of a tile
};

inline float largest_of(std::span<const float> x) {
  return x.empty() ? SoftmaxState<float>::nothing : *std::ranges::max_element(x);
}

struct StaleRow {
  RowRule rule{};
  float reference = rule.no_reference;
  std::array<float, 4> sum{};  // of each of the four threads that share the row
  std::vector<float> o{};      // not divided
  int tiles = 0, redone = 0;
  float largest_p = 0;         // of the last tile, as it went to the product

  // x: logits of a tile in log2 units, -inf where masked. values: value(key, feature). `must_raise`: somebody else demands
  // it. Returns whether the tile was done again.
  template <class Value>
  bool absorb(std::span<const float> x, int features, const Value& value, bool must_raise = false) {
    o.resize(static_cast<std::size_t>(features));
    if (tiles++ == 0) {
      const float m = largest_of(x);
      reference = m == SoftmaxState<float>::nothing ? rule.no_reference : m;
    }
    std::array<float, 4> total = sums(x);
    const bool over = tiles > 1 && (must_raise || std::ranges::any_of(total, [&](float t) { return !(t <= rule.most); }));
    if (over) {
      const float raised = std::max(reference, largest_of(x)), factor = std::exp2(reference - raised);
      reference = raised, ++redone;
      for (float& s : sum) s *= factor;
      for (float& value_sum : o) value_sum *= factor;
      total = sums(x);
    }
    for (int t = 0; t < 4; ++t) sum[static_cast<std::size_t>(t)] += total[static_cast<std::size_t>(t)];
    largest_p = 0;
    for (std::size_t j = 0; j < x.size(); ++j) {
      const auto p = static_cast<float>(Half(std::exp2(x[j] - reference)));
      largest_p = std::max(largest_p, p);
      for (std::size_t f = 0; f < o.size(); ++f) o[f] += p * value(static_cast<int>(j), static_cast<int>(f));
    }
    return over;
  }

  SoftmaxState<float> state() const {
    const float d = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    return {d == 0 ? SoftmaxState<float>::nothing : reference, d};
  }
  float result(int f) const { return o[static_cast<std::size_t>(f)] * state().inverse_d(); }

 private:
  // A thread has every fourth pair of keys.
  std::array<float, 4> sums(std::span<const float> x) const {
    std::array<float, 4> total{};
    for (std::size_t j = 0; j < x.size(); ++j) total[j / 2 % 4] += std::exp2(x[j] - reference);
    return total;
  }
};

// The same row with a running maximum (chapter 02).
struct RunningRow {
  SoftmaxState<float> state;
  std::vector<float> o;

  template <class Value>
  void absorb(std::span<const float> x, int features, const Value& value) {
    o.resize(static_cast<std::size_t>(features));
    const float m = std::max(state.m, largest_of(x)), rescale = SoftmaxState<float>::weight(state.m, m);
    state = {m, state.d * rescale};
    for (float& sum : o) sum *= rescale;
    for (std::size_t j = 0; j < x.size(); ++j) {
      const float p = SoftmaxState<float>::weight(x[j], m);
      state.d += p;
      for (std::size_t f = 0; f < o.size(); ++f) {
        o[f] += static_cast<float>(Half(p)) * value(static_cast<int>(j), static_cast<int>(f));
      }
    }
  }
  float result(int f) const { return o[static_cast<std::size_t>(f)] * state.inverse_d(); }
};

}  // namespace flashladder::walkthroughs
