// Attention of one request over a contiguous cache, in one call: no plan, no workspace, no page table.
//
// Each call plans. Who serves one request for many layers, or captures graphs, is better off with the batch classes and a
// batch of one, which plan once.
#pragma once

#include <cstdint>
#include <span>

#include "api/attention_config.hpp"
#include "core/attention_problem.hpp"

namespace flashladder::api {

struct SingleAttentionOptions {
  LogitsConfig logits{};
  KvLayout kv_layout = KvLayout::NHD;
  std::span<const float> sinks{};               // [num_qo_heads], or empty: none
  std::span<const std::uint8_t> custom_mask{};  // [qo_len, kv_len] bytes, 1 = visible; with logits.mask = custom only
  std::span<const std::uint8_t> packed_custom_mask{};  // the same as bits, the lowest first, in its place
  KvScales scales{};                            // what a stored k and v stand for; per head on the device
};

//   q     [num_qo_heads, head_dim_qk]            dense along head_dim
//   k, v  [kv_len, num_kv_heads, head_dim]       NHD; HND: [num_kv_heads, kv_len, head_dim]. v's head_dim may differ; of
//                                                q's dtype, or fp8
//   o     [num_qo_heads, head_dim_vo]            of q's dtype or f32;  lse_log2 [num_qo_heads] f32, base 2, or empty;
//                                                or, as {.o = o, .lse_natural = lse}, a natural logarithm
// On the GPU: memory from the stream's pool (cudaMallocAsync), one copy, one kernel, all enqueued on on.stream. A capturing
// stream is refused. InputError as run() of BatchDecodeWithPagedKVCache.
void single_decode_with_kv_cache(const ConstTensor& q, const ConstTensor& k, const ConstTensor& v,
                                 const AttentionOutput& output, const SingleAttentionOptions& options = {},
                                 const On& on = {});

// The same for many queries, the last qo_len tokens of the sequence: q [qo_len, num_qo_heads, head_dim_qk],
// o [qo_len, num_qo_heads, head_dim_vo], lse_log2 [qo_len, num_qo_heads] or empty.
void single_prefill_with_kv_cache(const ConstTensor& q, const ConstTensor& k, const ConstTensor& v,
                                  const AttentionOutput& output, const SingleAttentionOptions& options = {},
                                  const On& on = {});

}  // namespace flashladder::api
