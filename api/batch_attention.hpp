// Attention for serving: requests that prefill and requests that decode in one batch, and in one launch.
//
//   const AttentionLimits limits{.max_batch = 256, .max_pages = 20000, .max_nnz_qo = 4096};
//   BatchAttention attention(config, limits, workspace);
//   attention.plan(qo_indptr, kv_indptr, kv_indices, kv_len_arr, stream);     // once a step
//   for (each layer) attention.run(q, kv_cache, {o, lse}, stream);
//
// As FlashInfer's BatchAttention, whose plan() has the same arguments in the same order, but safe for CUDA graphs: captured
// once, planned again for every batch within the limits, replayed. On Hopper GPUs with head_dim 128 a part of the SMs reads
// for the requests of one query while the others multiply for the rest (P12, gpu/prefill/p12_mixed.cu); elsewhere it is
// computed as by CUDAGraphBatchPrefillWithPagedKVCache. explain() says which.
//
// What CUDAGraphBatchPrefillWithPagedKVCache says of objects, streams, errors and memory holds here.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "api/attention_config.hpp"
#include "core/attention_problem.hpp"
#include "core/plan.hpp"

namespace flashladder::api {

class AttentionSession;

class BatchAttention {
 public:
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, const AttentionLimits& limits);

  BatchAttention(const AttentionConfig& config, const AttentionLimits& limits, const Workspace& workspace);
  ~BatchAttention();
  BatchAttention(BatchAttention&&) noexcept;
  BatchAttention& operator=(BatchAttention&&) noexcept;

  //   qo_indptr  [batch + 1]  where each request's rows of q and o begin; host
  //   kv_indptr  [batch + 1]  a cumulative count of pages; host
  //   kv_indices [>= kv_indptr[batch]]  page ids, copied; in host memory, or on the device
  //   kv_len_arr [batch]      tokens of each request: as many as its pages hold, or less by less than a page; host
  void plan(std::span<const std::int32_t> qo_indptr, std::span<const std::int32_t> kv_indptr,
            std::span<const std::int32_t> kv_indices, std::span<const std::int32_t> kv_len_arr, Stream stream = nullptr,
            Device indices_on = Device::cpu);

  // As of the prefill classes; q and o have max_nnz_qo rows. sinks: with logits.sinks (FlashInfer has a class of its own
  // for that, BatchAttentionWithAttentionSinkWrapper).
  void run(const ConstTensor& q, const PagedKvCache& kv, const AttentionOutput& output, Stream stream = nullptr,
           std::span<const float> sinks = {}, std::span<const std::uint8_t> custom_mask = {},
           const KvScales& scales = {}, std::span<const std::uint8_t> packed_custom_mask = {});

  const Plan& current_plan() const;
  std::string explain() const;  // which kernel computes, and why no faster one

 private:
  std::int32_t page_size_ = 0;
  std::vector<std::int32_t> last_page_len_;  // of kv_len_arr; kept, so that planning again allocates nothing
  bool refused_ = false;                     // the last kv_len_arr
  std::unique_ptr<AttentionSession> session_;
};

// With an extra logit for each query head in the denominator: config.logits.sinks is set by it, and run() must be given them.
class BatchAttentionWithAttentionSink {
 public:
  static WorkspaceBytes workspace_bytes(AttentionConfig config, const AttentionLimits& limits);

  BatchAttentionWithAttentionSink(AttentionConfig config, const AttentionLimits& limits, const Workspace& workspace);

  void plan(std::span<const std::int32_t> qo_indptr, std::span<const std::int32_t> kv_indptr,
            std::span<const std::int32_t> kv_indices, std::span<const std::int32_t> kv_len_arr, Stream stream = nullptr,
            Device indices_on = Device::cpu) {
    attention_.plan(qo_indptr, kv_indptr, kv_indices, kv_len_arr, stream, indices_on);
  }
  // sink [num_qo_heads], on the device: natural units, already scaled.
  void run(const ConstTensor& q, const PagedKvCache& kv, std::span<const float> sink, const AttentionOutput& output,
           Stream stream = nullptr, const KvScales& scales = {}) {
    attention_.run(q, kv, output, stream, sink, {}, scales);
  }

  const Plan& current_plan() const { return attention_.current_plan(); }
  std::string explain() const { return attention_.explain(); }

 private:
  BatchAttention attention_;
};

}  // namespace flashladder::api
