// Attention over prefixes that requests share, level by level (FlashInfer's MultiLevelCascadeAttentionWrapper): a prefix is
// read once for all the rows that share it, and what the levels give is merged.
//
// Level 0 has what most requests share (a system prompt), each next level what fewer share (a document), the last level what
// every request has for itself. On a level the queries of all requests that share its keys stand together as one "request":
// with three requests of one query each, of which the first two share a prefix, the levels are
//   level 0   qo_indptr {0, 2, 3}      the prefix of rows 0 and 1; row 2 has none: no pages
//   level 1   qo_indptr {0, 1, 2, 3}   each row's own keys
// All levels divide the same rows; groups of a level are whole groups of the next one. A row's keys are those of its group on
// level 0, then those on level 1 ...: one softmax goes over all of them. Each level is a prefill on its own, with o in f32 and
// lse_log2; merging them by lse_log2 is exact up to rounding (docs/17_cascades.md), in the order of the levels, and rounds o
// once. A level on which a row has no keys counts for nothing.
//
// sm_scale and soft cap are of one logit, and so the same on every level. The mask is that of the last level; a row sees all
// keys of the others. Sinks are merged once a row: on the last level. Refused is what counts positions over the whole
// sequence (window, ALiBi, ROPE_LLAMA: rotate keys before they are appended) and a custom mask.
//
// Everything that api/batch_prefill.hpp says of objects, streams, errors and memory holds here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "api/attention_config.hpp"
#include "core/attention_problem.hpp"

namespace flashladder {
struct Plan;
}

namespace flashladder::api {

class AttentionSession;

// One level of a batch. Host arrays.
struct CascadeLevel {
  std::span<const std::int32_t> qo_indptr;               // [groups + 1]  where each group's rows begin
  std::span<const std::int32_t> paged_kv_indptr;         // [groups + 1]
  std::span<const std::int32_t> paged_kv_last_page_len;  // [groups]
};

class MultiLevelCascadeAttention {
 public:
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, std::span<const CascadeLevel> levels);
  // Enough for every batch within the limits, one for each level; max_nnz_qo is the same in all of them.
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, std::span<const AttentionLimits> levels);

  // config.logits.mask: none or causal, of the last level.
  MultiLevelCascadeAttention(std::int32_t num_levels, const AttentionConfig& config, const Workspace& workspace);
  ~MultiLevelCascadeAttention();
  MultiLevelCascadeAttention(MultiLevelCascadeAttention&&) noexcept;
  MultiLevelCascadeAttention& operator=(MultiLevelCascadeAttention&&) noexcept;

  // levels [num_levels], the most shared one first; read before plan() returns. With a causal mask the keys of a request's
  // queries are on the last level, all of them or all but the first one's.
  void plan(std::span<const CascadeLevel> levels, Stream stream = nullptr);

  //   q          [nnz_qo, num_qo_heads, head_dim_qk]
  //   kv         the one pool that the pages of all levels are in
  //   page_ids   [num_levels]  each level's paged_kv_indices
  //   o          [nnz_qo, num_qo_heads, head_dim_vo]; may be q itself. lse_log2, or lse_natural, [nnz_qo, num_qo_heads] or
  //              empty
  //   sinks      [num_qo_heads] with logits.sinks
  //   scales     of the pool, and so of every level
  void run(const ConstTensor& q, const PagedKvCache& kv, std::span<const std::span<const std::int32_t>> page_ids,
           const AttentionOutput& output, Stream stream = nullptr, std::span<const float> sinks = {},
           const KvScales& scales = {});

  std::int32_t num_levels() const;
  const Plan& current_plan(std::int32_t level) const;
  std::string explain() const;  // a line for each level: which kernel computes it, and why no faster one

 private:
  void divide(std::size_t partials);

  AttentionConfig config_;
  Workspace workspace_;
  std::vector<AttentionSession> sessions_;  // one a level
  std::vector<WorkspaceBytes> wanted_;      // by the batch, level by level
  std::vector<WorkspaceBytes> parts_;       // of the workspace: what each session is attached to
  std::size_t partials_ = 0;                // bytes before these parts, where the levels' states lie
  std::int32_t nnz_qo_ = 0;
  bool planned_ = false;
};

// The same for CUDA graphs: made for limits, one set for each level, captured once, planned again for every batch within them,
// replayed. What CUDAGraphBatchPrefillWithPagedKVCache says of graphs, streams and limits holds here: q and o have max_nnz_qo
// rows, of which a batch uses the first ones, and the others of o are left untouched. Groups and rows may be fewer from batch
// to batch; groups without rows, and without pages, are levels' groups as any. A refused plan() changes no level's plan.
class CUDAGraphMultiLevelCascadeAttention {
 public:
  static WorkspaceBytes workspace_bytes(const AttentionConfig& config, std::span<const AttentionLimits> levels);

  // levels: max_nnz_qo is the same in all of them.
  CUDAGraphMultiLevelCascadeAttention(const AttentionConfig& config, std::span<const AttentionLimits> levels,
                                      const Workspace& workspace);
  ~CUDAGraphMultiLevelCascadeAttention();
  CUDAGraphMultiLevelCascadeAttention(CUDAGraphMultiLevelCascadeAttention&&) noexcept;
  CUDAGraphMultiLevelCascadeAttention& operator=(CUDAGraphMultiLevelCascadeAttention&&) noexcept;

  // page_ids [num_levels]: each level's paged_kv_indices, all of them on the host or on the device. They are copied.
  void plan(std::span<const CascadeLevel> levels, std::span<const std::span<const std::int32_t>> page_ids,
            Stream stream = nullptr, Device indices_on = Device::cpu);

  void run(const ConstTensor& q, const PagedKvCache& kv, const AttentionOutput& output, Stream stream = nullptr,
           std::span<const float> sinks = {}, const KvScales& scales = {});

  std::int32_t num_levels() const;
  const Plan& current_plan(std::int32_t level) const;
  std::string explain() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace flashladder::api
