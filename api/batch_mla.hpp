// Multi-head latent attention with absorbed projections (DeepSeek's), over a paged cache of latent rows that all heads share:
// decode, drafts of several queries, and prefill.
//
//   const MlaConfig config{.num_heads = 128, .page_size = 64, .sm_scale = 1 / std::sqrt(128.0f + 64)};
//   const AttentionLimits limits{.max_batch = 256, .max_pages = 20000, .max_nnz_qo = 256};
//   BatchMLAPagedAttention attention(config, limits, workspace);
//   attention.plan(qo_indptr, kv_indptr, kv_indices, kv_len_arr, stream);                          // once a step
//   for (each layer) attention.run(q_nope, q_pe, paged_mla_cache(ckv, kpe), {o, lse}, stream);
//
// As FlashInfer's BatchMLAPagedAttentionWrapper: plan() has its array arguments in its order, and what is the same in every
// step stands in the config, under its names. What is computed: core/mla_params.hpp, docs/conventions.md. Safe for CUDA
// graphs as BatchAttention is: planned again for every batch within the limits, and what the classes of
// CUDAGraphBatchPrefillWithPagedKVCache say of objects, streams, errors and memory holds here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/attention_config.hpp"
#include "core/attention_problem.hpp"
#include "core/mla_problem.hpp"
#include "core/plan.hpp"

namespace flashladder::api {

class AttentionSession;

struct MlaConfig {
  std::int32_t num_heads = 0;              // query heads, any number
  std::int32_t head_dim_ckv = 512, head_dim_kpe = 64;
  std::int32_t page_size = 0;              // tokens
  bool causal = false;
  // Must be given. 1 / sqrt(features of a head's key before its projection was absorbed): for DeepSeek's models
  // 1 / sqrt(128 + 64), not 1 / sqrt(512 + 64), because absorbing does not change the dot product.
  float sm_scale = 0;
  DType kv_dtype = DType::f16;             // of ckv and kpe: f32, f16, bf16, f8_e4m3 or f8_e5m2
  std::optional<DType> q_dtype{};          // kv_dtype, and no other; with an fp8 cache f32, f16 or bf16, to be given
  std::optional<DType> o_dtype{};          // that of q if not given, or f32
  ExecutionConfig execution{};             // backend: automatic

  // The same as multi-query attention, which is what is planned. InputError for wrong heads, dims, sm_scale or backend.
  AttentionConfig attention() const;
  friend bool operator==(const MlaConfig&, const MlaConfig&) = default;
};

class BatchMLAPagedAttention {
 public:
  static WorkspaceBytes workspace_bytes(const MlaConfig& config, const AttentionLimits& limits);

  BatchMLAPagedAttention(const MlaConfig& config, const AttentionLimits& limits, const Workspace& workspace);
  ~BatchMLAPagedAttention();
  BatchMLAPagedAttention(BatchMLAPagedAttention&&) noexcept;
  BatchMLAPagedAttention& operator=(BatchMLAPagedAttention&&) noexcept;

  //   qo_indptr  [batch + 1]  where each request's rows of q and o begin; host
  //   kv_indptr  [batch + 1]  a cumulative count of pages; host
  //   kv_indices [>= kv_indptr[batch]]  page ids, copied; in host memory, or on the device
  //   kv_len_arr [batch]      tokens of each request: as many as its pages hold, or less by less than a page; host
  void plan(std::span<const std::int32_t> qo_indptr, std::span<const std::int32_t> kv_indptr,
            std::span<const std::int32_t> kv_indices, std::span<const std::int32_t> kv_len_arr, Stream stream = nullptr,
            Device indices_on = Device::cpu);
  // The same of a dense table, block_tables [batch, max_pages]; limits.max_pages counts all its entries.
  void plan(std::span<const std::int32_t> qo_indptr, std::span<const std::int32_t> block_tables,
            const BlockTableLengths& lengths, Stream stream = nullptr, Device indices_on = Device::cpu);

  // On the object's device. q_nope, o [max_nnz_qo, num_heads, head_dim_ckv], q_pe [max_nnz_qo, num_heads, head_dim_kpe]: rows
  // behind qo_indptr[batch] are neither read nor written. o may be q_nope. cache: of two tensors or of one, by
  // paged_mla_cache(). scales: what a stored ckv and kpe stand for, numbers; of fp8 caches above all.
  void run(const ConstTensor& q_nope, const ConstTensor& q_pe, const PagedMlaCache& cache, const AttentionOutput& output,
           Stream stream = nullptr, const MlaScales& scales = {});

  const Plan& current_plan() const;
  std::string explain() const;  // which kernel computes

 private:
  std::int32_t page_size_ = 0;
  std::vector<std::int32_t> last_page_len_;  // of kv_len_arr; kept, so that planning again allocates nothing
  bool refused_ = false;                     // the last kv_len_arr
  std::unique_ptr<AttentionSession> session_;
};

}  // namespace flashladder::api
