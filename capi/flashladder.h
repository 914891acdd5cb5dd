/* FlashLadder in C: attention over a paged KV cache by plan and run, and the operations around it, on the CPU or the GPU.

   What is computed, and every shape: docs/api.md, docs/conventions.md. Names are those of the C++ classes. C11, or any C++.

   Status    Functions return FL_OK (0) or what went wrong; fl_last_error() has the sentence, with argument, value and rule.
             A call that is refused has written nothing, but for fl_..._create, whose *out then is NULL.
   Structs   begin with their size, and zero stands for the default everywhere:
                 fl_logits logits = {.size = sizeof logits, .mask = FL_MASK_CAUSAL};
             A library that is newer than its caller takes the default for fields that the caller does not know; one that is
             older refuses what it does not know, unless it is zero. Fields called `reserved` are zero.
   Pointers  are read during the call only, but for a workspace. Tensors and arrays of a call lie on its device, lengths on
             the host. Inputs are only read, although fl_tensor.data is no pointer to const.
   Streams   are a cudaStream_t; NULL is the default stream. The CPU works while its caller waits, and ignores them.
   Threads   An object belongs to one thread and one stream at a time; different objects are independent. */
#ifndef FLASHLADDER_H
#define FLASHLADDER_H

#include "api/version.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- Errors and devices ------------------------------------------------------------------------------------------- */
typedef int32_t fl_status;
enum { FL_OK = 0, FL_INVALID_ARGUMENT = 1, FL_OUT_OF_MEMORY = 2, FL_CUDA_ERROR = 3, FL_INTERNAL_ERROR = 4 };
enum { FL_CPU = 0, FL_GPU = 1 }; /* device */

typedef struct fl_error { /* of the last call on this thread that was not FL_OK; strings live until the next such call */
  size_t size;
  int32_t status, request; /* request: which one of the batch, or -1 */
  const char *message, *argument, *value, *rule; /* all but the message are "" where no argument is to blame */
} fl_error;

const char* fl_version(void);       /* of the library that is linked; FLASHLADDER_VERSION is this header's */
const char* fl_last_error(void);    /* the message alone; "" before anything has failed */
fl_status fl_last_error_parts(fl_error* out);
const char* fl_why_no_gpu(void);    /* "" if this machine has a GPU that the library runs on, else one sentence */
int32_t fl_best_device(void);       /* FL_GPU where there is one */

/* --- Tensors ------------------------------------------------------------------------------------------------------ */
enum { FL_DTYPE_DEFAULT = 0, FL_F32 = 1, FL_F16 = 2, FL_BF16 = 3, /* dtype */
       FL_F8_E4M3 = 4, FL_F8_E5M2 = 5 }; /* of K and V, and of what fl_rmsnorm_quant writes */
enum { FL_NHD = 0, FL_HND = 1 };         /* layout of a cache */

typedef struct fl_tensor {
  size_t size;
  void* data;
  int32_t dtype, rank;             /* rank: 1 .. 5 */
  int64_t shape[5], strides[5];    /* strides in elements; the last dimension is dense */
} fl_tensor;

/* A dense row-major tensor. In C, fl_tensor q = FL_TENSOR(data, FL_F16, batch, num_qo_heads, head_dim); */
static inline fl_tensor fl_contiguous(const void* data, int32_t dtype, int32_t rank, const int64_t* shape) {
  fl_tensor t = {sizeof(fl_tensor), (void*)(uintptr_t)data, dtype, rank, {0, 0, 0, 0, 0}, {0, 0, 0, 0, 0}};
  int64_t stride = 1;
  int32_t i;
  for (i = rank < 0 || rank > 5 ? 0 : rank; i-- > 0;) {
    t.shape[i] = shape[i];
    t.strides[i] = stride;
    stride *= shape[i];
  }
  return t;
}
#ifndef __cplusplus
#define FL_TENSOR(data, dtype, ...) \
  fl_contiguous(data, dtype, (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
#endif

/* Scales: of fp8 caches, and of any other; read by attention and by appending.
   Paged: k alone, 5-D with K at index 0 and V at 1, or k and v, 4-D each. Without pages (ragged, fl_single_*): 3-D each. */
typedef struct fl_kv_cache {
  size_t size;
  const fl_tensor *k, *v;
  int32_t layout, reserved;
  float k_scale, v_scale;          /* a stored k stands for k * k_scale, a stored v for v * v_scale; 0: 1 */
  const float *k_scale_per_head, *v_scale_per_head; /* [num_kv_heads] where K and V lie, in their place; or NULL */
} fl_kv_cache;

/* --- Attention by plan and run ------------------------------------------------------------------------------------ */
enum { FL_MASK_NONE = 0, FL_MASK_CAUSAL = 1, FL_MASK_CUSTOM = 2 };                   /* mask */
enum { FL_POS_NONE = 0, FL_POS_ROPE_LLAMA = 1, FL_POS_ALIBI = 2 };                   /* pos_encoding_mode */
enum { FL_SPLIT_BALANCED = 0, FL_SPLIT_FIXED = 1, FL_SPLIT_NONE = 2, FL_SPLIT_COUNT = 3, FL_SPLIT_TARGET = 4, /* policy */
       FL_SPLIT_EVEN = 5 };
enum { FL_BACKEND_AUTO = 0, FL_BACKEND_FA2 = 1, FL_BACKEND_FA3 = 2 };                /* backend, of a prefill on the GPU */
enum { FL_DECODE = 0, FL_PREFILL = 1, FL_RAGGED_PREFILL = 2, FL_GRAPH_DECODE = 3, FL_GRAPH_PREFILL = 4, /* kind */
       FL_BATCH_ATTENTION = 5,         /* a graph too, planned as FL_GRAPH_PREFILL, for prefill and decode in one batch */
       FL_GRAPH_RAGGED_PREFILL = 6 };  /* max_pages of its limits: tokens. k and v have max_pages rows or more */

typedef struct fl_logits { /* how a dot product becomes a logit, and who sees whom */
  size_t size;
  float sm_scale;                      /* 0: 1 / sqrt(head_dim_qk) */
  int32_t mask, use_window, window_left; /* window_left: counts with use_window = 1 only */
  float logits_soft_cap;               /* 0: none */
  int32_t pos_encoding_mode;
  float rope_scale, rope_theta;        /* FL_POS_ROPE_LLAMA; 0: 1 and 10000 */
} fl_logits;

typedef struct fl_attention_config {
  size_t size;
  int32_t num_qo_heads, num_kv_heads, head_dim_qk, head_dim_vo; /* head_dim_vo 0: head_dim_qk */
  int32_t page_size;                   /* FL_RAGGED_PREFILL, FL_GRAPH_RAGGED_PREFILL: 1 */
  int32_t kv_dtype, q_dtype, o_dtype;  /* 0: q's is that of K and V (not of fp8), o's that of q */
  /* chunk_size: keys, a multiple of 64, with FL_SPLIT_FIXED. threads: of the CPU at most; 0: all. sinks, enable_pdl: 0 or 1;
     with enable_pdl run() may start while the kernel before it ends, which must not write page ids. */
  int32_t sinks, device, policy, chunk_size, threads, enable_pdl, backend, reserved;
  const fl_logits* logits;             /* NULL: the defaults */
  int32_t num_sms, reserved2;          /* num_sms: of the GPU at most; 0: all */
} fl_attention_config;

typedef struct fl_attention_limits { /* the largest batch of a workspace, or of a captured graph */
  size_t size;
  int64_t max_pages, max_nnz_qo;       /* max_nnz_qo: queries of all requests; 0 for a decode */
  int32_t max_batch, reserved;
  int32_t max_qo_len, reserved2;       /* max_qo_len: of a prefill, queries of one request; 0: not known */
} fl_attention_limits;

typedef struct fl_workspace { /* borrowed for the life of the object; both 16-byte aligned */
  size_t size;
  void* device;                        /* where the kernels run */
  size_t device_bytes;
  void* staging;                       /* GPU: page-locked host memory. CPU: none */
  size_t staging_bytes;
} fl_workspace;

/* What plan() is given: host arrays. One of: page lists, a ragged cache, a block table. With lengths_on_device = 1 (FL_DECODE,
   FL_PREFILL with policy none) they lie on the config's device, and the plan is made there: nothing is copied to the host, and
   plan() and run() may be captured into a graph together; FL_SPLIT_BALANCED then means FL_SPLIT_EVEN. No request may then have more than max_seq_len keys and, of a
   prefill, max_qo_len queries, all together max_nnz_qo, the rows of q and o; that is what the workspace is for. */
typedef struct fl_batch {
  size_t size;
  int32_t batch, max_pages;                      /* max_pages: entries of a row of a block table */
  const int32_t* qo_indptr;                      /* [batch + 1]  prefill; NULL for a decode */
  const int32_t *paged_kv_indptr, *paged_kv_last_page_len; /* [batch + 1], [batch] */
  const int32_t* kv_indptr;                      /* [batch + 1]  FL_RAGGED_PREFILL, FL_GRAPH_RAGGED_PREFILL */
  const int32_t* seq_lens;                       /* [batch]      of a block table */
  const int32_t* page_ids;                       /* graphs: paged_kv_indices or block_tables, else NULL */
  int64_t num_page_ids;
  int32_t page_ids_on, reserved;                 /* device */
  int32_t lengths_on_device, max_seq_len, max_qo_len, reserved2; /* 0 or 1; with 1 only, the other two of a prefill */
  int64_t max_nnz_qo;
} fl_batch;

typedef struct fl_attention_arguments { /* what run() is given, on the device */
  size_t size;
  const fl_tensor* q;
  const fl_kv_cache* kv;
  const fl_tensor* o;                            /* may be q itself */
  float* lse_log2;                               /* [rows of q, num_qo_heads], base 2; NULL: not wanted */
  const int32_t* page_ids;                       /* FL_DECODE, FL_PREFILL: paged_kv_indices or block_tables, else NULL */
  int64_t num_page_ids;
  const float* sinks;                            /* [num_qo_heads] if the config has sinks (fl_single_*: if given) */
  const uint8_t* custom_mask;                    /* FL_MASK_CUSTOM: a byte for each query and key, 1 = visible */
  int64_t custom_mask_bytes;
  float* lse_natural;                            /* in the place of lse_log2: a natural logarithm */
  const uint8_t* packed_custom_mask;             /* in the place of custom_mask: its bits, the lowest of a byte first, each
                                                    request's from a byte on */
  int64_t packed_custom_mask_bytes;
} fl_attention_arguments;

typedef struct fl_attention fl_attention; /* Batch{Decode,Prefill}With{Paged,Ragged}KVCache, CUDAGraph kin, BatchAttention */

/* Bytes for one batch exactly, or for every batch within limits. Graphs have limits only. */
fl_status fl_attention_bytes_for_batch(int32_t kind, const fl_attention_config* config, const fl_batch* batch,
                                       size_t* device_bytes, size_t* staging_bytes);
fl_status fl_attention_bytes_for_limits(int32_t kind, const fl_attention_config* config, const fl_attention_limits* limits,
                                        size_t* device_bytes, size_t* staging_bytes);
/* The least device bytes, with staging bytes as above. With these a prefill on pages that are no multiple of 8 tokens takes
   fa2, which reads them where they lie: fa3 has no room to copy them together. Elsewhere the same number. */
fl_status fl_attention_least_device_bytes_for_batch(int32_t kind, const fl_attention_config* config, const fl_batch* batch,
                                                    size_t* device_bytes);
fl_status fl_attention_least_device_bytes_for_limits(int32_t kind, const fl_attention_config* config,
                                                     const fl_attention_limits* limits, size_t* device_bytes);
/* limits: of FL_GRAPH_... and FL_BATCH_ATTENTION, else NULL. */
fl_status fl_attention_create(int32_t kind, const fl_attention_config* config, const fl_attention_limits* limits,
                              const fl_workspace* workspace, fl_attention** out);
void fl_attention_destroy(fl_attention* attention); /* NULL is fine */
fl_status fl_attention_plan(fl_attention* attention, const fl_batch* batch, void* stream);
fl_status fl_attention_run(fl_attention* attention, const fl_attention_arguments* arguments, void* stream);
/* Who computes, and why nobody faster; the plan in force, as JSON. The string lives until the next call on the object. */
fl_status fl_attention_explain(fl_attention* attention, const char** text);
fl_status fl_attention_plan_json(fl_attention* attention, const char** json);

/* --- Shared prefixes, level by level: MultiLevelCascadeAttention ---------------------------------------------------- */
typedef struct fl_cascade fl_cascade;

/* levels[l]: of level l, the most shared one first, batch (its groups), qo_indptr, paged_kv_indptr, paged_kv_last_page_len,
   as FL_PREFILL has them; or its limits. least_device_bytes: as of fl_attention_least_device_bytes_...; NULL: not wanted. */
fl_status fl_cascade_bytes_for_batch(const fl_attention_config* config, const fl_batch* const* levels, int32_t num_levels,
                                     size_t* device_bytes, size_t* staging_bytes, size_t* least_device_bytes);
fl_status fl_cascade_bytes_for_limits(const fl_attention_config* config, const fl_attention_limits* const* levels,
                                      int32_t num_levels, size_t* device_bytes, size_t* staging_bytes,
                                      size_t* least_device_bytes);
fl_status fl_cascade_create(int32_t num_levels, const fl_attention_config* config, const fl_workspace* workspace,
                            fl_cascade** out);
/* For CUDA graphs, CUDAGraphMultiLevelCascadeAttention: made for limits, one for each level. fl_cascade_plan then takes each
   level's page_ids too, all of them on one device, and fl_cascade_run none: page_ids and num_page_ids are NULL. */
fl_status fl_cascade_graph_bytes(const fl_attention_config* config, const fl_attention_limits* const* levels,
                                 int32_t num_levels, size_t* device_bytes, size_t* staging_bytes, size_t* least_device_bytes);
fl_status fl_cascade_graph_create(int32_t num_levels, const fl_attention_config* config,
                                  const fl_attention_limits* const* levels, const fl_workspace* workspace, fl_cascade** out);
void fl_cascade_destroy(fl_cascade* cascade); /* NULL is fine */
fl_status fl_cascade_plan(fl_cascade* cascade, const fl_batch* const* levels, int32_t num_levels, void* stream);
/* page_ids[l], num_page_ids[l]: the paged_kv_indices of level l; arguments->page_ids is NULL. */
fl_status fl_cascade_run(fl_cascade* cascade, const fl_attention_arguments* arguments, const int32_t* const* page_ids,
                         const int64_t* num_page_ids, int32_t num_levels, void* stream);
/* As fl_attention_explain and fl_attention_plan_json: a line for each level; the plan of one. */
fl_status fl_cascade_explain(fl_cascade* cascade, const char** text);
fl_status fl_cascade_plan_json(fl_cascade* cascade, int32_t level, const char** json);

/* --- Multi-head latent attention: BatchMLAPagedAttention ------------------------------------------------------------ */
typedef struct fl_mla_config {
  size_t size;
  int32_t num_heads, head_dim_ckv, head_dim_kpe; /* 0: 512 and 64; head_dim_kpe -1: none */
  int32_t page_size, causal;
  float sm_scale;                      /* must be given: 1 / sqrt(128 + 64) for DeepSeek's models */
  int32_t kv_dtype, q_dtype, o_dtype;  /* 0: q's is that of ckv and kpe, o's that of q */
  int32_t device, policy, chunk_size, threads, enable_pdl, num_sms, reserved; /* as in fl_attention_config */
} fl_mla_config;

typedef struct fl_mla_cache { /* [pages, page_size, head_dim_ckv] and [pages, page_size, head_dim_kpe] */
  size_t size;
  const fl_tensor *ckv, *kpe;          /* kpe NULL: ckv holds both, a row's kpe behind its ckv */
  int32_t head_dim_ckv, reserved;      /* head_dim_ckv: with kpe NULL only, where to cut; 0: 512 */
  float ckv_scale, kpe_scale;          /* 0: 1. What a stored number stands for; of fp8. fl_mla_decode_call: 0 */
} fl_mla_cache;

typedef struct fl_mla_arguments { /* on the device; rows as of FL_GRAPH_PREFILL: max_nnz_qo */
  size_t size;
  const fl_tensor *q_nope, *q_pe;      /* [max_nnz_qo, num_heads, head_dim_ckv], [max_nnz_qo, num_heads, head_dim_kpe] */
  const fl_mla_cache* cache;
  const fl_tensor* o;                  /* as q_nope, and may be q_nope */
  float *lse_log2, *lse_natural;       /* one of them, or NULL */
} fl_mla_arguments;

typedef struct fl_mla fl_mla; /* planned and replayed as FL_GRAPH_PREFILL */

fl_status fl_mla_bytes_for_limits(const fl_mla_config* config, const fl_attention_limits* limits, size_t* device_bytes,
                                  size_t* staging_bytes);
fl_status fl_mla_create(const fl_mla_config* config, const fl_attention_limits* limits, const fl_workspace* workspace,
                        fl_mla** out);
void fl_mla_destroy(fl_mla* mla); /* NULL is fine */
/* batch: page lists or a block table, with qo_indptr and page_ids. */
fl_status fl_mla_plan(fl_mla* mla, const fl_batch* batch, void* stream);
fl_status fl_mla_run(fl_mla* mla, const fl_mla_arguments* arguments, void* stream);
fl_status fl_mla_explain(fl_mla* mla, const char** text);      /* as of fl_attention */
fl_status fl_mla_plan_json(fl_mla* mla, const char** json);

/* --- Single calls ------------------------------------------------------------------------------------------------- */
typedef struct fl_on { /* where a call runs; a NULL fl_on is the CPU */
  size_t size;
  void* stream;
  int32_t device, enable_pdl;
} fl_on;

/* One request, k and v [kv_len, num_kv_heads, head_dim] or HND. q and o [num_qo_heads, head_dim]; of a prefill
   [qo_len, num_qo_heads, head_dim]. logits: NULL for the defaults. */
fl_status fl_single_decode_with_kv_cache(const fl_attention_arguments* arguments, const fl_logits* logits, const fl_on* on);
fl_status fl_single_prefill_with_kv_cache(const fl_attention_arguments* arguments, const fl_logits* logits, const fl_on* on);

#ifdef __cplusplus
}
#endif

#include "capi/serving.h"
#include "capi/operations.h"

#endif
