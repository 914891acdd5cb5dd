// The state of a softmax that has seen some of its logits: (m, d), base 2. All of FlashAttention's bookkeeping is here.
//
//   m = max of the logits seen (in units of log2: logit * log2 e),    d = sum of 2^(logit - m)
//
// merge() combines two disjoint sets of keys and returns the two weights by which the caller scales its own accumulators
// (a register tile, an Eigen row, a buffer): o = o_a * weight.a + o_b * weight.b. States form a commutative monoid whose
// identity is "nothing seen", (-inf, 0). The guard below is the only place that knows about -inf.
// (Milakov and Gimelshein, arXiv:1805.02867, for (m, d); Rabe and Staats, arXiv:2112.05682, for merging.)
#pragma once

#include <cmath>
#include <limits>

#include "core/host_device.hpp"

namespace flashladder {

inline constexpr double log2_e = 1.4426950408889634074;

// LSE is base 2 everywhere (lse_log2); who wants another gets it as an output. These two are the only conversions.
template <class T>
FL_HD constexpr T lse_log2_from_natural(T lse_natural) { return lse_natural * static_cast<T>(log2_e); }
template <class T>
FL_HD constexpr T lse_natural_from_log2(T lse_log2) { return lse_log2 / static_cast<T>(log2_e); }

template <class T>
struct MergeWeights {
  T a, b;
};

template <class T>
struct SoftmaxState {
  static constexpr T nothing = -std::numeric_limits<T>::infinity();

  T m = nothing;  // running maximum, log2 units
  T d = 0;        // sum of exp2(logit - m)

  // The state of a finished, normalised partial: its o is already divided by its d, and lse_log2 says how much it weighs.
  static FL_HD constexpr SoftmaxState from_lse_log2(T lse_log2) { return {lse_log2, lse_log2 == nothing ? T(0) : T(1)}; }
  // A sink: one extra logit (natural units, unscaled) without a value.
  static FL_HD constexpr SoftmaxState from_sink(T sink) { return {sink * static_cast<T>(log2_e), T(1)}; }

  FL_HD T lse_log2() const { return d == 0 ? nothing : m + std::log2(d); }  // a NaN d stays NaN
  // What finally divides o. An empty row has o = 0 and stays 0.
  FL_HD T inverse_d() const { return d == 0 ? T(0) : T(1) / d; }

  // 2^(from - to), where "nothing" weighs nothing: without the guard, -inf - -inf would be NaN. A logit of +inf against a
  // maximum of +inf is NaN, as it should be: such a row has no answer.
  static FL_HD T weight(T from, T to) { return from == nothing ? T(0) : std::exp2(from - to); }
};

// a becomes the state of both. Any number of merges in any order and any tree gives the same sums up to rounding. A state
// with m = +inf (a partial whose lse_log2 is +inf) outweighs every finite one, and several of them weigh alike; NaN stays.
template <class T>
FL_HD MergeWeights<T> merge(SoftmaxState<T>& a, const SoftmaxState<T>& b) {
  using State = SoftmaxState<T>;
  const T m = a.m > b.m ? a.m : b.m;
  const auto weight = [m](const State& s) { return s.m == m && m != State::nothing ? T(1) : State::weight(s.m, m); };
  const MergeWeights<T> w{weight(a), weight(b)};
  a = {m, a.d * w.a + b.d * w.b};
  return w;
}

// What a row finally comes to.
template <class T>
struct FinishedRow {
  T scale;     // of its o, which is not divided yet
  T lse_log2;
};

// The last step of a row, done once, by its final writer: merges the sink (in log2 units, `nothing` where there is none) and
// adds the constant that the row's logits lack (ScoreTransform::row_constant). The constant may be large, so the sum is
// written relative to whichever is larger, the row's maximum or the sink; the smaller one then weighs so little that what
// rounding takes from the difference is lost on nothing.
template <class T>
FL_HD FinishedRow<T> finish_row(const SoftmaxState<T>& state, T sink_log2, T row_constant) {
  const T above = sink_log2 - row_constant - state.m;  // the sink against the row's maximum; +inf for an empty row
  const bool sink_leads = above > T(0);
  const T sink = sink_log2 == SoftmaxState<T>::nothing ? T(0) : sink_leads ? T(1) : std::exp2(above);
  const T weight = sink_leads ? std::exp2(-above) : T(1), d = state.d * weight + sink;
  if (d == 0) return {T(0), SoftmaxState<T>::nothing};
  return {weight / d, (sink_leads ? sink_log2 : state.m) + std::log2(d) + (sink_leads ? T(0) : row_constant)};
}

}  // namespace flashladder
