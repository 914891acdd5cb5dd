// FlashInfer's calls over a dense block table, under their names and with their arguments' names and meanings, on our
// kernels: one call plans and runs. Who runs many layers on one batch is better off with BatchDecodeWithPagedKVCache, which
// plans once.
//
//   trtllm_batch_decode_with_kv_cache({.query = q, .kv_cache = paged_kv_cache(pool, KvLayout::HND),
//                                      .workspace_buffer = memory, .block_tables = tables, .seq_lens = lens,
//                                      .max_seq_len = 8192, .bmm1_scale = sm_scale, .out = {o}}, {Device::gpu, stream});
//
// Decode takes lengths that lie on the device, and may be captured: the plan is made there, in every replay anew. So does
// prefill with lengths_on_device: then policy is none, no tile's keys are cut. Else it takes lengths on the host, cuts where
// that balances the work, and refuses a capturing stream. How things lie is said by the cache (FlashInfer's default is HND
// for the trtllm and cudnn calls, NHD for xqa) and by the strides of q and o, which take the place of element offsets.
// What we don't have is refused: several queries a request in cuDNN's decode. Caches may be fp8, with q in 16 bits.
//
// A decode with a draft's mask is a prefill on the inside: its lengths and the mask lie on the host, and a capturing stream is
// refused. The mask is FlashInfer's: [batch, q_len, ceil(q_len / 32)] words, whose bit k of row i says whether query i sees
// query k of its request, the lowest bit first. The keys before the queries' own are seen by all of them; a window counts too.
//
// Tensors, tables, lengths of decode and sinks lie on on.device. workspace_buffer: as large as workspace_bytes() of the same
// call says, which looks at shapes and max_..., and of a prefill at lengths on the host. It is the call's own until the
// stream has carried it out; calls of one thread on one stream may share it. InputError as plan() and run() of the batch
// classes.
#pragma once

#include <cstdint>
#include <span>

#include "api/attention_config.hpp"
#include "core/attention_problem.hpp"

namespace flashladder::api {

struct TrtllmBatchDecode {
  ConstTensor query;                            // [batch * q_len_per_req, num_qo_heads, head_dim]
  PagedKvCache kv_cache;
  Workspace workspace_buffer;
  std::span<const std::int32_t> block_tables;   // [batch, max_pages]
  std::span<const std::int32_t> seq_lens;       // [batch], on the device; the new tokens included
  std::int32_t max_seq_len = 0;                 // a bound of the lengths, for memory and the choice of a kernel; the table's
                                                // width is another
  float bmm1_scale = 1;                         // q_scale * k_scale * sm_scale: what multiplies q . k
  float bmm2_scale = 1;                         // v_scale: what multiplies o
  std::int32_t window_left = -1;
  AttentionOutput out;                          // as of run(); lse if it is wanted
  std::span<const float> sinks{};               // [num_qo_heads], or none
  std::int32_t q_len_per_req = 1;               // queries of every request, causal among them: query has as many rows. On the
                                                // GPU as many as decode's tile has rows for (docs/api.md, few queries)
  std::span<const std::uint32_t> mask{};        // a draft's, in the place of causal; then any q_len_per_req
};

// Causal, as FlashInfer's is. Lengths on the host, or with lengths_on_device where the tensors lie: then query may have more
// rows than cum_seq_lens_q says, and cum_seq_lens_kv is not read on the GPU.
struct TrtllmBatchContext {
  ConstTensor query;                            // [cum_seq_lens_q[batch_size], num_qo_heads, head_dim]
  PagedKvCache kv_cache;
  Workspace workspace_buffer;
  std::span<const std::int32_t> block_tables;   // [batch_size, max_pages]
  std::span<const std::int32_t> seq_lens;       // [batch_size] keys, the new ones included
  std::int32_t max_q_len = 0, max_kv_len = 0;   // no request has more
  float bmm1_scale = 1, bmm2_scale = 1;
  std::int32_t batch_size = 0;
  std::span<const std::int32_t> cum_seq_lens_q, cum_seq_lens_kv;  // [batch_size + 1] tokens; the second may be left out
  std::int32_t window_left = -1;
  AttentionOutput out;
  std::span<const float> sinks{};
  bool lengths_on_device = false;
};

struct CudnnBatchDecode {
  ConstTensor q;                                    // [batch, num_qo_heads, head_dim]
  PagedKvCache kv_cache;                            // of k_cache and v_cache: paged_kv_cache(k, v, KvLayout::HND)
  float scale = 1;                                  // sm_scale
  Workspace workspace_buffer;
  std::int32_t max_sequence_kv = 0;
  std::span<const std::int32_t> actual_seq_lens_kv; // [batch], (batch, 1, 1, 1) there; on the device
  std::span<const std::int32_t> block_tables;       // [batch, max_pages]
  AttentionOutput out;
};

// Lengths on the host, or with lengths_on_device where the tensors lie, as above. batch_offsets_q, batch_offsets_o: where each
// request begins, in elements, on the host, if they are given. Requests lie one after the other: offsets that leave a gap are
// refused, and so are any beside lengths on the device.
struct CudnnBatchPrefill {
  ConstTensor q;                                    // [tokens, num_qo_heads, head_dim_qk]
  PagedKvCache kv_cache;
  float scale = 1;
  Workspace workspace_buffer;
  std::int32_t max_token_per_sequence = 0, max_sequence_kv = 0;   // no request has more
  std::span<const std::int32_t> actual_seq_lens_q, actual_seq_lens_kv;  // [batch]
  std::span<const std::int32_t> block_tables;       // [batch, max_pages]
  bool causal = false;
  AttentionOutput out;                              // cuDNN's own lse is lse_natural
  std::span<const std::int64_t> batch_offsets_q{}, batch_offsets_o{};  // [batch + 1]
  bool lengths_on_device = false;
};

struct Xqa {
  ConstTensor q;                                // [batch * q_seq_len, num_qo_heads, head_dim], or with a beam of 1: [batch, 1,
                                                // num_qo_heads, ...], [batch, 1, q_seq_len, num_qo_heads, head_dim]
  PagedKvCache kv_cache;                        // of k_cache and v_cache
  std::span<const std::int32_t> page_table;     // [batch, max_pages]
  std::span<const std::uint32_t> seq_lens;      // [batch], on the device; at most max_pages * page_size
  AttentionOutput output;
  Workspace workspace_buffer;
  std::span<const float> sinks{};
  float q_scale = 1;                            // with 1 / sqrt(head_dim) what multiplies q . k
  float kv_scale = 1;                           // what a stored k and a stored v stand for, alike
  std::int32_t sliding_win_size = 0;            // keys of the window, the diagonal one included; 0: no window
  std::int32_t q_seq_len = 1;                   // as q_len_per_req above
  std::span<const std::uint32_t> mask{};
};

WorkspaceBytes workspace_bytes(const TrtllmBatchDecode& call, const On& on = {});
WorkspaceBytes workspace_bytes(const TrtllmBatchContext& call, const On& on = {});
WorkspaceBytes workspace_bytes(const CudnnBatchDecode& call, const On& on = {});
WorkspaceBytes workspace_bytes(const CudnnBatchPrefill& call, const On& on = {});
WorkspaceBytes workspace_bytes(const Xqa& call, const On& on = {});

void trtllm_batch_decode_with_kv_cache(const TrtllmBatchDecode& call, const On& on = {});
void trtllm_batch_context_with_kv_cache(const TrtllmBatchContext& call, const On& on = {});
void cudnn_batch_decode_with_kv_cache(const CudnnBatchDecode& call, const On& on = {});
void cudnn_batch_prefill_with_kv_cache(const CudnnBatchPrefill& call, const On& on = {});
void xqa(const Xqa& call, const On& on = {});

}  // namespace flashladder::api
