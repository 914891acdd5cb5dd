// From a raw dot product q . k to the logit that enters the softmax. The order is the contract (docs/conventions.md):
//   RoPE on q and k (before the dot product, rope.hpp) -> sm_scale, once, times the scale of K (kv_scales.hpp)
//   -> soft cap -> ALiBi -> mask (visibility.hpp)
// The result is in log2 units (logit * log2 e), because everything after it works with exp2.
//
// ALiBi adds slope * (j - i), with i and j counted from the start of their own arrays, as FlashInfer does. At the end of a
// long sequence that is a large number, and nearly the same one for all keys that weigh anything: a float that holds it has
// no bits left for what tells the keys apart. A softmax does not change when all logits of a row move together, so a rung
// reckons from the last key that the query sees, slope * (j - origin) with origin = alibi_origin(): near that key the term
// is small, and far from it, where the term is large, the weight is 0. What all logits of the row lack then,
// slope * (origin - i), belongs into lse alone, and the row's final writer adds it once (row_constant, finish_row).
#pragma once

#include <cmath>
#include <cstdint>

#include "core/attention_params.hpp"
#include "core/host_device.hpp"
#include "core/softmax_state.hpp"
#include "core/visibility.hpp"

namespace flashladder {

// ALiBi slope of head h of n: 2^(-8 (h + 1) / m) for the first m = 2^floor(log2 n) heads, then the odd steps of the
// sequence for 2 m heads. (Press et al., arXiv:2108.12409; the rule for n that is no power of two is its reference code's.)
FL_HD inline double alibi_slope(std::int32_t head, std::int32_t num_qo_heads) {
  std::int32_t m = 1;
  while (2 * m <= num_qo_heads) m *= 2;
  return head < m ? std::exp2(-8.0 * (head + 1) / m) : std::exp2(-4.0 * (2 * (head - m) + 1) / m);
}

// The key from which a rung reckons the ALiBi term of query i. mask is the request's own, as in visible().
template <class Mask>
FL_HD constexpr std::int32_t alibi_origin(const AttentionParams& p, std::int32_t qo_len, std::int32_t kv_len, std::int32_t i,
                                          Mask mask) {
  return p.pos_encoding_mode == PosEncodingMode::ALIBI ? last_visible_key(p, qo_len, kv_len, i, mask) : 0;
}

template <class T>
struct ScoreTransform {
  T sm_scale, soft_cap, slope;

  // k_scale: what the stored keys of the head's group are multiplied with (KvScales).
  FL_HD ScoreTransform(const AttentionParams& p, std::int32_t qo_head, float k_scale = 1)
      : sm_scale(static_cast<T>(p.sm_scale) * static_cast<T>(k_scale)), soft_cap(p.logits_soft_cap),
        slope(p.pos_encoding_mode == PosEncodingMode::ALIBI ? static_cast<T>(alibi_slope(qo_head, p.num_qo_heads)) : T(0)) {}

  FL_HD bool only_scales() const { return soft_cap == T(0) && slope == T(0); }

  // j and origin are absolute in the request. origin = i gives the logit of the contract; another origin gives it less the
  // row's constant.
  FL_HD T operator()(T dot, std::int32_t origin, std::int32_t j) const {
    T logit = dot * sm_scale;
    if (soft_cap > T(0)) logit = soft_cap * std::tanh(logit / soft_cap);
    if (slope != T(0)) logit += slope * static_cast<T>(j - origin);
    return logit * static_cast<T>(log2_e);
  }

  // What every logit of query i lacks when it was computed from `origin` (log2 units): finish_row() adds it.
  FL_HD T row_constant(std::int32_t i, std::int32_t origin) const {
    return slope == T(0) ? T(0) : slope * static_cast<T>(origin - i) * static_cast<T>(log2_e);
  }
};

}  // namespace flashladder
