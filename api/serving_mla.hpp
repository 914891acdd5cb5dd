// FlashInfer's calls of latent attention over a dense block table, under their names, on the kernels of
// BatchMLAPagedAttention: one call plans and runs.
//
//   trtllm_batch_decode_with_kv_cache_mla({.query = q, .kv_cache = paged_mla_cache(pool, 512), .workspace_buffer = memory,
//                                          .block_tables = tables, .seq_lens = lens, .max_seq_len = 8192,
//                                          .bmm1_scale = 1 / std::sqrt(128.0f + 64), .out = {o}}, {Device::gpu, stream});
//
// With one query a request lengths lie on the device, and the call may be captured: the plan is made there, in every replay
// anew. With several, which are causal among themselves, lengths lie on the host, and a capturing stream is refused. Memory,
// threads and errors: as of serving_calls.hpp.
#pragma once

#include <cstdint>
#include <span>

#include "api/attention_config.hpp"
#include "core/attention_problem.hpp"
#include "core/mla_problem.hpp"

namespace flashladder::api {

struct TrtllmBatchDecodeMla {
  // [batch, q_len, num_heads, head_dim_ckv + head_dim_kpe], a head's q_pe behind its q_nope; or, with one query a request,
  // [batch, num_heads, head_dim_ckv + head_dim_kpe]. Requests follow each other as their queries do.
  ConstTensor query;
  PagedMlaCache kv_cache;                      // paged_mla_cache(pool, head_dim_ckv), or of two tensors
  Workspace workspace_buffer;
  std::span<const std::int32_t> block_tables;  // [batch, max_pages]
  std::span<const std::int32_t> seq_lens;      // [batch] latent rows, those of the queries included: on the device, with
                                               // several queries a request on the host
  std::int32_t max_seq_len = 0;                // a bound of the lengths; the table's width is another
  float bmm1_scale = 1;                        // what multiplies q . row: 1 / sqrt(128 + 64) for DeepSeek's models, and the
                                               // scales of q and of rows
  float bmm2_scale = 1;                        // what multiplies o: the scale of rows
  AttentionOutput out;                         // o [as query, head_dim_ckv]; lse [batch * q_len, num_heads] if it is wanted
};

// Of caches that were quantised with one scale.
struct XqaMla {
  ConstTensor q;                               // as query; q_len, or a beam, of 1
  PagedMlaCache kv_cache;                      // of k_cache, whose first features v_cache is
  std::span<const std::int32_t> page_table;    // [batch, max_pages]
  std::span<const std::uint32_t> seq_lens;     // [batch], on the device; at most max_pages * page_size
  AttentionOutput output;
  Workspace workspace_buffer;
  float q_scale = 1;                           // with kv_scale what multiplies q . row: 1 / sqrt(128 + 64) is in it
  float kv_scale = 1;                          // what a stored row stands for
};

WorkspaceBytes workspace_bytes(const TrtllmBatchDecodeMla& call, const On& on = {});
WorkspaceBytes workspace_bytes(const XqaMla& call, const On& on = {});

void trtllm_batch_decode_with_kv_cache_mla(const TrtllmBatchDecodeMla& call, const On& on = {});
void xqa_mla(const XqaMla& call, const On& on = {});

}  // namespace flashladder::api
