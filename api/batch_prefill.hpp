// Batch prefill and append by plan and run: many queries a request, over a paged or a ragged KV cache.
//
// Request b's queries are the *last* qo_len(b) tokens of its sequence, whose keys and values are in the cache already: a
// whole prompt has qo_len = kv_len, a chunk of a prompt or a draft of a few tokens less, and one query a request is a
// decode. With logits.mask = causal query i sees the keys up to its own. A whole program: examples/chunked_prefill.cpp.
//
// Everything that api/batch_decode.hpp says of objects, streams, errors and memory holds here. On the GPU the kernel
// is chosen when the object is made, by config.execution.backend and what the config asks for; explain() names it. (Over
// pages that are no multiple of 8 tokens plan() may choose between two: docs/api.md.) But a batch in which no request has
// more than one query is a decode, and costs what decode costs: plan() takes decode's kernel for it, which gives the bits of
// BatchDecodeWithPagedKVCache. So is one of few queries a request, such as drafts, as long as a request's rows are one tile
// of that kernel (4 queries of 4 query heads a KV head; explain() says how many). A graph's kernel is one for all its plans:
// decode's with so small a max_qo_len in its limits. Who asks for a backend gets that one for every batch, and with policies
// fixed and none, where a request's bits do not depend on its neighbours, no batch changes the kernel.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "api/attention_config.hpp"
#include "core/attention_problem.hpp"

namespace flashladder {
struct Plan;
}

namespace flashladder::api {

class AttentionSession;

class BatchPrefillWithPagedKVCache {
 public:
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, std::span<const std::int32_t> qo_indptr,
                                        std::span<const std::int32_t> paged_kv_indptr,
                                        std::span<const std::int32_t> paged_kv_last_page_len);
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, std::span<const std::int32_t> qo_indptr,
                                        const BlockTableLengths& lengths);
  // Enough for every batch within the limits, max_nnz_qo included.
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, const AttentionLimits& limits);
  // Enough for any lengths within the bounds: the lengths themselves are not looked at. No staging memory.
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, const DeviceQueryLengths& queries,
                                        const DeviceBlockTableLengths& lengths);
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, const DeviceQueryLengths& queries,
                                        const DevicePageListLengths& lengths);

  BatchPrefillWithPagedKVCache(const AttentionConfig& config, const Workspace& workspace);
  ~BatchPrefillWithPagedKVCache();
  BatchPrefillWithPagedKVCache(BatchPrefillWithPagedKVCache&&) noexcept;
  BatchPrefillWithPagedKVCache& operator=(BatchPrefillWithPagedKVCache&&) noexcept;

  //   qo_indptr [batch + 1]: where each request's queries begin. paged_kv_indptr [batch + 1] and paged_kv_last_page_len
  //   [batch] are those of all its tokens, the new ones included. Host arrays; read before plan() returns.
  void plan(std::span<const std::int32_t> qo_indptr, std::span<const std::int32_t> paged_kv_indptr,
            std::span<const std::int32_t> paged_kv_last_page_len, Stream stream = nullptr);
  // The same for a dense block table: prefill.plan(qo_indptr, BlockTableLengths{seq_lens, max_pages}, stream).
  void plan(std::span<const std::int32_t> qo_indptr, const BlockTableLengths& lengths, Stream stream = nullptr);
  // For lengths on the device, with policy none: as plan() of BatchDecodeWithPagedKVCache makes it of such lengths, by one
  // kernel, without a copy or a wait, and on a capturing stream too, where the graph plans anew in every replay. q and o of
  // run() have max_nnz_qo rows. Refused: what copies K and V first (an fp8 cache beside q in 16 bits, RoPE inside attention,
  // backend fa3 on pages that it can't read), and a custom mask.
  void plan(const DeviceQueryLengths& queries, const DeviceBlockTableLengths& lengths, Stream stream = nullptr);
  void plan(const DeviceQueryLengths& queries, const DevicePageListLengths& lengths, Stream stream = nullptr);

  //   q           [qo_indptr[batch], num_qo_heads, head_dim_qk]  dense along head_dim; strides of tokens and heads are free
  //   kv, page_ids, sinks, scales   as in BatchDecodeWithPagedKVCache::run
  //   o           [qo_indptr[batch], num_qo_heads, head_dim_vo]; lse_log2, or lse_natural, [qo_indptr[batch], num_qo_heads]
  //               or empty
  //   custom_mask [sum of qo_len * kv_len] bytes, 1 = visible, row by row and request by request, with logits.mask = custom
  //   packed_custom_mask [sum of ceil(qo_len * kv_len / 8)] in its place: the same as bits, the lowest first, each request's
  //               from a byte on, as FlashInfer packs them. On the GPU both are read by one kernel ahead of attention
  void run(const ConstTensor& q, const PagedKvCache& kv, std::span<const std::int32_t> page_ids,
           const AttentionOutput& output, Stream stream = nullptr, std::span<const float> sinks = {},
           std::span<const std::uint8_t> custom_mask = {}, const KvScales& scales = {},
           std::span<const std::uint8_t> packed_custom_mask = {});

  // On the GPU without a prediction: work is claimed, and plan() has no time to lose. InputError where it was made there.
  const Plan& current_plan() const;
  std::string explain() const;  // which kernel computes, and why no faster one

 private:
  std::unique_ptr<AttentionSession> session_;
};

// The same for CUDA graphs: made for limits, captured once, planned again for every batch within them, replayed. All that
// CUDAGraphBatchDecodeWithPagedKVCache says holds here; q and o have max_nnz_qo rows. A custom mask has as many bytes as the
// batch that is planned asks for, in the form, bytes or bits, that was captured.
class CUDAGraphBatchPrefillWithPagedKVCache {
 public:
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, const AttentionLimits& limits);

  CUDAGraphBatchPrefillWithPagedKVCache(const AttentionConfig& config, const AttentionLimits& limits,
                                        const Workspace& workspace);
  ~CUDAGraphBatchPrefillWithPagedKVCache();
  CUDAGraphBatchPrefillWithPagedKVCache(CUDAGraphBatchPrefillWithPagedKVCache&&) noexcept;
  CUDAGraphBatchPrefillWithPagedKVCache& operator=(CUDAGraphBatchPrefillWithPagedKVCache&&) noexcept;

  void plan(std::span<const std::int32_t> qo_indptr, std::span<const std::int32_t> paged_kv_indptr,
            std::span<const std::int32_t> paged_kv_indices, std::span<const std::int32_t> paged_kv_last_page_len,
            Stream stream = nullptr, Device indices_on = Device::cpu);
  void plan(std::span<const std::int32_t> qo_indptr, const BlockTableLengths& lengths,
            std::span<const std::int32_t> block_tables, Stream stream = nullptr, Device indices_on = Device::cpu);

  void run(const ConstTensor& q, const PagedKvCache& kv, const AttentionOutput& output, Stream stream = nullptr,
           std::span<const float> sinks = {}, std::span<const std::uint8_t> custom_mask = {},
           const KvScales& scales = {}, std::span<const std::uint8_t> packed_custom_mask = {});

  const Plan& current_plan() const;
  std::string explain() const;  // which kernel computes, and why no faster one

 private:
  std::unique_ptr<AttentionSession> session_;
};

// The same over keys and values that lie one after the other, token by token, without pages: config.cache.page_size is 1.
class BatchPrefillWithRaggedKVCache {
 public:
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, std::span<const std::int32_t> qo_indptr,
                                        std::span<const std::int32_t> kv_indptr);
  // max_pages: tokens of all requests together.
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, const AttentionLimits& limits);

  BatchPrefillWithRaggedKVCache(const AttentionConfig& config, const Workspace& workspace);
  ~BatchPrefillWithRaggedKVCache();
  BatchPrefillWithRaggedKVCache(BatchPrefillWithRaggedKVCache&&) noexcept;
  BatchPrefillWithRaggedKVCache& operator=(BatchPrefillWithRaggedKVCache&&) noexcept;

  // kv_indptr [batch + 1]: where each request's tokens begin in k and v.
  void plan(std::span<const std::int32_t> qo_indptr, std::span<const std::int32_t> kv_indptr, Stream stream = nullptr);

  //   k  [kv_indptr[batch], num_kv_heads, head_dim_qk], v [kv_indptr[batch], num_kv_heads, head_dim_vo], or more rows; strided
  //      as q may be
  void run(const ConstTensor& q, const ConstTensor& k, const ConstTensor& v, const AttentionOutput& output,
           Stream stream = nullptr, std::span<const float> sinks = {}, std::span<const std::uint8_t> custom_mask = {},
           const KvScales& scales = {}, std::span<const std::uint8_t> packed_custom_mask = {});

  const Plan& current_plan() const;
  std::string explain() const;  // which kernel computes, and why no faster one

 private:
  std::unique_ptr<AttentionSession> session_;
};

// The same for CUDA graphs, as CUDAGraphBatchPrefillWithPagedKVCache is for pages; max_pages of the limits are tokens, and
// there are no page ids. k and v have max_pages rows or more, of which a batch reads the first kv_indptr[batch].
class CUDAGraphBatchPrefillWithRaggedKVCache {
 public:
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, const AttentionLimits& limits);

  CUDAGraphBatchPrefillWithRaggedKVCache(const AttentionConfig& config, const AttentionLimits& limits,
                                         const Workspace& workspace);
  ~CUDAGraphBatchPrefillWithRaggedKVCache();
  CUDAGraphBatchPrefillWithRaggedKVCache(CUDAGraphBatchPrefillWithRaggedKVCache&&) noexcept;
  CUDAGraphBatchPrefillWithRaggedKVCache& operator=(CUDAGraphBatchPrefillWithRaggedKVCache&&) noexcept;

  void plan(std::span<const std::int32_t> qo_indptr, std::span<const std::int32_t> kv_indptr, Stream stream = nullptr);

  void run(const ConstTensor& q, const ConstTensor& k, const ConstTensor& v, const AttentionOutput& output,
           Stream stream = nullptr, std::span<const float> sinks = {}, std::span<const std::uint8_t> custom_mask = {},
           const KvScales& scales = {}, std::span<const std::uint8_t> packed_custom_mask = {});

  const Plan& current_plan() const;
  std::string explain() const;  // which kernel computes, and why no faster one

 private:
  std::unique_ptr<AttentionSession> session_;
};

}  // namespace flashladder::api
