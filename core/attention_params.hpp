// What is computed, apart from the data: heads, dims, scale, mask and logits features. Plain numbers, host and device.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/host_device.hpp"

namespace flashladder {

enum class MaskMode : std::uint8_t { none, causal, custom };
enum class PosEncodingMode : std::uint8_t { NONE, ROPE_LLAMA, ALIBI };

constexpr const char* name_of(MaskMode m) {
  return m == MaskMode::none ? "none" : m == MaskMode::causal ? "causal" : "custom";
}
constexpr const char* name_of(PosEncodingMode m) {
  return m == PosEncodingMode::NONE ? "NONE" : m == PosEncodingMode::ROPE_LLAMA ? "ROPE_LLAMA" : "ALIBI";
}

struct AttentionParams {
  std::int32_t num_qo_heads = 1, num_kv_heads = 1;  // num_qo_heads = group_size * num_kv_heads, any group size
  std::int32_t head_dim_qk = 64, head_dim_vo = 64;
  float sm_scale = 0.125f;             // > 0, applied once to q . k; usually 1 / sqrt(head_dim_qk)
  MaskMode mask = MaskMode::none;      // a custom mask replaces causal
  std::int32_t window_left = -1;       // keys kept to the left of the diagonal one; -1 = all. Applies with every mask
  float logits_soft_cap = 0;           // c > 0: logit = c * tanh(logit / c); 0 = off
  PosEncodingMode pos_encoding_mode = PosEncodingMode::NONE;
  float rope_scale = 1, rope_theta = 10000;  // ROPE_LLAMA only
  bool sinks = false;                  // one extra logit per query head, without a value

  FL_HD constexpr std::int32_t group_size() const { return num_qo_heads / num_kv_heads; }
};

inline float default_sm_scale(std::int32_t head_dim_qk) { return 1.0f / std::sqrt(static_cast<float>(head_dim_qk)); }

}  // namespace flashladder
