/* FlashLadder in C: FlashInfer's calls over a block table, each of which plans and runs. The header
   flashladder.h, which has what they share with the rest, includes this one. */
#ifndef FLASHLADDER_SERVING_H
#define FLASHLADDER_SERVING_H

#include "capi/flashladder.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- FlashInfer's calls over a block table; docs/api.md says what each argument is called there ------------------ */
enum { FL_TRTLLM_BATCH_DECODE = 0, FL_TRTLLM_BATCH_CONTEXT = 1, FL_CUDNN_BATCH_DECODE = 2, FL_CUDNN_BATCH_PREFILL = 3,
       FL_XQA = 4 }; /* which call */

typedef struct fl_serving_call {
  size_t size;
  const fl_tensor *q, *o;
  const fl_kv_cache* kv;                         /* paged */
  const fl_workspace* workspace_buffer;          /* fl_serving_bytes: NULL */
  const int32_t *block_tables, *seq_lens;        /* [batch, max_pages] on the device, [batch]: of a decode there too */
  const int32_t* cum_seq_lens_q;                 /* [batch + 1] of a prefill: host; with lengths_on_device there */
  const float* sinks;                            /* [num_qo_heads], or NULL; not cuDNN's */
  float *lse_log2, *lse_natural;                 /* one of them, or NULL */
  int32_t batch, max_pages, max_q_len, max_kv_len; /* max_q_len: of a prefill; of FL_TRTLLM_BATCH_DECODE and FL_XQA
                                                     queries of every request, 0 for 1. FL_XQA: max_kv_len 0 */
  float bmm1_scale, bmm2_scale;                  /* 0: 1. cuDNN's scale, none; xqa's q_scale, kv_scale. kv has none here */
  int32_t use_window, window_left;               /* as in fl_logits; not cuDNN's */
  int32_t causal, reserved;                      /* causal: of FL_CUDNN_BATCH_PREFILL */
  const uint32_t* mask;                          /* of FL_TRTLLM_BATCH_DECODE and FL_XQA, or NULL: [batch, max_q_len,
                                                    ceil(max_q_len / 32)], host; then seq_lens lies there too. Bit k of
                                                    row i: query i sees query k (api/serving_calls.hpp) */
  int32_t lengths_on_device, reserved2;          /* of a prefill, 0 or 1: they lie where q does, and no keys are cut */
  const int32_t* seq_lens_q;                     /* [batch] with 1 in the place of cum_seq_lens_q: of cuDNN's prefill */
} fl_serving_call;

fl_status fl_serving_bytes(int32_t which, const fl_serving_call* call, const fl_on* on, size_t* device_bytes,
                           size_t* staging_bytes);
fl_status fl_serving_run(int32_t which, const fl_serving_call* call, const fl_on* on);

typedef struct fl_mla_decode_call { /* trtllm_batch_decode_with_kv_cache_mla, and xqa_mla */
  size_t size;
  const fl_tensor *query, *o;                    /* [batch, q_len, num_heads, features]; rank 3: q_len 1 */
  const fl_mla_cache* kv_cache;
  const fl_workspace* workspace_buffer;          /* fl_mla_decode_bytes: NULL */
  const int32_t *block_tables, *seq_lens;        /* [batch, max_pages] on the device, [batch] there too, q_len > 1: host */
  float *lse_log2, *lse_natural;                 /* [batch * q_len, num_heads], one of them, or NULL */
  int32_t batch, max_pages, max_seq_len, reserved;
  float bmm1_scale, bmm2_scale;                  /* bmm1_scale must be given; xqa_mla's: q_scale * kv_scale. bmm2_scale 0:
                                                    1; xqa_mla's: kv_scale */
} fl_mla_decode_call;

fl_status fl_mla_decode_bytes(const fl_mla_decode_call* call, const fl_on* on, size_t* device_bytes, size_t* staging_bytes);
fl_status fl_mla_decode_run(const fl_mla_decode_call* call, const fl_on* on);

#ifdef __cplusplus
}
#endif

#endif
