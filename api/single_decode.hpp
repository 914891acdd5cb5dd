// Decode of one request over a contiguous cache, in one call: no plan, no workspace, no page table.
//
// It plans on every call. Who decodes one request for many layers, or captures graphs, is better served by
// BatchDecodeWithPagedKVCache with one page of kv_len tokens, which plans once.
#pragma once

#include <optional>
#include <span>

#include "api/device.hpp"
#include "core/attention_problem.hpp"

namespace flashladder::api {

struct SingleDecodeOptions {  // as in DecodeConfig
  KvLayout kv_layout = KvLayout::NHD;
  std::optional<float> sm_scale{};
  float logits_soft_cap = 0;
  std::int32_t window_left = -1;
  PosEncodingMode pos_encoding_mode = PosEncodingMode::NONE;
  float rope_scale = 1, rope_theta = 10000;
};

//   q     [num_qo_heads, head_dim]            dense
//   k, v  [kv_len, num_kv_heads, head_dim]    NHD; HND: [num_kv_heads, kv_len, head_dim]. Dense along head_dim
//   o     [num_qo_heads, head_dim]            dense, of q's dtype or f32;  lse_log2 [num_qo_heads] f32, base 2, or empty
//   sinks [num_qo_heads], or empty: none
// On the GPU: memory from the stream's pool (cudaMallocAsync), one copy, one kernel, all enqueued on on.stream. A capturing
// stream is refused. InputError as run() of BatchDecodeWithPagedKVCache.
void single_decode_with_kv_cache(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOutput& output,
                                 const SingleDecodeOptions& options = {}, const On& on = {},
                                 std::span<const float> sinks = {});

}  // namespace flashladder::api
