// From a raw dot product q . k to the logit that enters the softmax. The order is the contract (docs/conventions.md):
//   RoPE on q and k (before the dot product, rope.hpp) -> sm_scale, once -> soft cap -> ALiBi -> mask (visibility.hpp)
// The result is in log2 units (logit * log2 e), because everything after it works with exp2.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/attention_params.hpp"
#include "core/host_device.hpp"
#include "core/softmax_state.hpp"

namespace flashladder {

// ALiBi slope of head h of n: 2^(-8 (h + 1) / m) for the first m = 2^floor(log2 n) heads, then the odd steps of the
// sequence for 2 m heads. (Press et al., arXiv:2108.12409; the rule for n that is no power of two is its reference code's.)
FL_HD inline double alibi_slope(std::int32_t head, std::int32_t num_qo_heads) {
  std::int32_t m = 1;
  while (2 * m <= num_qo_heads) m *= 2;
  return head < m ? std::exp2(-8.0 * (head + 1) / m) : std::exp2(-4.0 * (2 * (head - m) + 1) / m);
}

template <class T>
struct ScoreTransform {
  T sm_scale, soft_cap, slope;

  FL_HD ScoreTransform(const AttentionParams& p, std::int32_t qo_head)
      : sm_scale(p.sm_scale), soft_cap(p.logits_soft_cap),
        slope(p.pos_encoding_mode == PosEncodingMode::ALIBI ? static_cast<T>(alibi_slope(qo_head, p.num_qo_heads)) : T(0)) {}

  FL_HD bool only_scales() const { return soft_cap == T(0) && slope == T(0); }

  // i and j are absolute in the request. ALiBi uses j - i as FlashInfer does: a shift against the distance to the diagonal
  // that leaves o alone and moves lse by slope * (kv_len - qo_len).
  FL_HD T operator()(T dot, std::int32_t i, std::int32_t j) const {
    T logit = dot * sm_scale;
    if (soft_cap > T(0)) logit = soft_cap * std::tanh(logit / soft_cap);
    if (slope != T(0)) logit += slope * static_cast<T>(j - i);
    return logit * static_cast<T>(log2_e);
  }
};

}  // namespace flashladder
