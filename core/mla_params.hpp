// Multi-head latent attention (MLA; DeepSeek-V2, arXiv:2405.04434, section 2.1) with absorbed projections, apart from the
// data. Plain numbers, host and device.
//
// The cache holds one latent row a token, which all query heads share: ckv, of which both the keys and the values of every
// head are a linear function, and kpe, the part of the keys that RoPE has rotated. The two linear functions are absorbed into
// the query (by whoever calls) and into what follows attention, so that attention itself is between queries and latent rows:
//
//   logit[i, h, j] = sm_scale * (q_nope[i, h] . ckv[j] + q_pe[i, h] . kpe[j])
//   o[i, h]        = sum_j softmax_j(logit) * ckv[j]
//
// So it is multi-query attention: one KV head of head_dim_ckv + head_dim_kpe features, whose value is the first head_dim_ckv
// of them.
#pragma once

#include <cstdint>

#include "core/attention_params.hpp"
#include "core/host_device.hpp"
#include "core/page_table.hpp"

namespace flashladder {

struct MlaParams {
  std::int32_t num_heads = 1;  // query heads, any number
  std::int32_t head_dim_ckv = 512, head_dim_kpe = 64;  // head_dim_kpe may be 0
  // Must be given, there is no default: 1 / sqrt(features of a head's key before projections were absorbed), for DeepSeek's
  // models 1 / sqrt(128 + 64). The absorbed dot product of 576 features equals that of the 192, so it has their deviation.
  float sm_scale = 0;
  MaskMode mask = MaskMode::none;  // or causal

  FL_HD constexpr std::int32_t head_dim_qk() const { return head_dim_ckv + head_dim_kpe; }
  // The same as attention: for planners, and for rules about rows and keys.
  FL_HD constexpr AttentionParams attention() const {
    AttentionParams p;
    p.num_qo_heads = num_heads, p.num_kv_heads = 1;
    p.head_dim_qk = head_dim_qk(), p.head_dim_vo = head_dim_ckv;
    p.sm_scale = sm_scale, p.mask = mask;
    return p;
  }
};

struct MlaStrides {  // in elements, 64-bit: a pool may hold more than 2^31
  std::int64_t page = 0, entry = 0;

  FL_HD constexpr std::int64_t offset(KvSlot slot) const { return slot.page * page + slot.entry * entry; }
};

}  // namespace flashladder
