/* A kernel of your own on the ladder: the interface that a plug-in implements, in C.

   A plug-in is a shared library with one function, fl_plugin_entry(), which returns a struct of what it is and of the
   functions that compute. `flashladder verify --plugin my.so` runs it through the cases that every rung passes.
   docs/bring-your-own-kernel.md walks from a template to a failing verify; what is computed, to the last rule about masks
   and empty rows: docs/conventions.md.

   Order     supports, and if it says yes workspace_bytes, prepare, then run as often as the caller likes, then release.
             All calls of one state come from one thread.
   Memory    The caller allocates everything. Arrays of fl_plugin_shape lie on the host; pointers of fl_plugin_buffers lie
             where `device` says, the index arrays too. Both structs and their host arrays live until release returns.
   Errors    Functions that return text return NULL for success, else one sentence that says why not. It must live until the
             next call. No exception may leave a function.
   Versions  Structs begin with their size. A caller that is newer than the plug-in has larger structs, whose first fields
             are the same; fields are only ever added at the end. version is FL_PLUGIN_VERSION of the header that the
             plug-in was compiled with; it changes only when the meaning of a field does, and then the loader refuses the
             older one.
   Constants FL_CPU, FL_F16, FL_NHD, FL_MASK_CAUSAL, FL_POS_ALIBI ... are those of flashladder.h. */
#ifndef FLASHLADDER_PLUGIN_H
#define FLASHLADDER_PLUGIN_H

#include "capi/flashladder.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FL_PLUGIN_VERSION 1

/* What is to be computed, without the data: what supports() is asked about. */
typedef struct fl_plugin_shape {
  size_t size;
  int32_t batch;                        /* requests */
  int32_t block_table;                  /* 1: page ids come as block_tables and seq_lens; 0: as the three paged_kv arrays */
  const int32_t* qo_lens;               /* [batch]  queries of each request, 0 too; may exceed its kv_len */
  const int32_t* kv_lens;               /* [batch]  keys of each request, 0 too */
  int32_t num_qo_heads, num_kv_heads;   /* query head h reads KV head h / (num_qo_heads / num_kv_heads) */
  int32_t head_dim_qk, head_dim_vo;     /* of q and k, and of v and o */
  int32_t page_size;                    /* tokens in a page, any number >= 1 */
  int32_t dtype;                        /* FL_F32, FL_F16 or FL_BF16, of q, k and v */
  int32_t layout;                       /* FL_NHD or FL_HND; the strides of fl_plugin_buffers already say it */
  int32_t mask;                         /* FL_MASK_NONE, FL_MASK_CAUSAL (bottom right) or FL_MASK_CUSTOM */
  int32_t window_left;                  /* keys kept to the left of the diagonal one; -1: all */
  int32_t pos_encoding_mode;            /* FL_POS_NONE, FL_POS_ROPE_LLAMA or FL_POS_ALIBI */
  int32_t sinks;                        /* 1: every query head has an extra logit without a value */
  int32_t reserved;
  float sm_scale;                       /* factor of q . k, applied once */
  float logits_soft_cap;                /* c > 0: logit = c * tanh(logit / c), after sm_scale; 0: none */
  float rope_scale, rope_theta;         /* FL_POS_ROPE_LLAMA only */
} fl_plugin_shape;

/* The data. Everything but o, lse_log2 and workspace is only read: a changed input is reported as a fault. */
typedef struct fl_plugin_buffers {
  size_t size;
  const void* q;                        /* [qo_indptr[batch], num_qo_heads, head_dim_qk], of shape.dtype */
  int64_t q_strides[2];                 /* elements from a query to the next, from a head to the next; features are dense */
  const void *k, *v;                    /* the pages; slots that no token uses may hold anything, NaN too */
  int64_t k_strides[3], v_strides[3];   /* elements from a page to the next, an entry of a page, a KV head */
  int32_t num_pages;                    /* pages of the pool; page ids are below it */
  int32_t max_pages;                    /* entries of a row of block_tables; 0 without a block table */
  const int32_t* qo_indptr;             /* [batch + 1]  request b's queries are rows qo_indptr[b] .. qo_indptr[b + 1] - 1 */
  const int32_t* paged_kv_indptr;       /* [batch + 1]  cumulative count of pages; NULL with a block table */
  const int32_t* paged_kv_indices;      /* [paged_kv_indptr[batch]]  page ids in token order; NULL with a block table */
  const int32_t* paged_kv_last_page_len; /* [batch]  tokens in the last page; NULL with a block table */
  const int32_t* block_tables;          /* [batch, max_pages]  page ids; beyond a request's length anything; or NULL */
  const int32_t* seq_lens;              /* [batch]  keys of each request; NULL without a block table */
  const uint8_t* custom_mask;           /* FL_MASK_CUSTOM: request after request [qo_len, kv_len], 1 = visible; else NULL */
  const float* sinks;                   /* [num_qo_heads], natural logits; NULL without sinks */
  float* o;                             /* [qo_indptr[batch], num_qo_heads, head_dim_vo], dense; every element is written */
  float* lse_log2;                      /* [qo_indptr[batch], num_qo_heads]  log2 of the sum of e^logit; -inf: saw nothing */
  void* workspace;                      /* workspace_bytes(), aligned to 16 bytes; starts as NaN */
  size_t workspace_bytes;
} fl_plugin_buffers;

/* What a plug-in is. The struct and its strings live as long as the library is loaded. */
typedef struct fl_plugin {
  size_t size;                          /* sizeof(fl_plugin) */
  uint32_t version;                     /* FL_PLUGIN_VERSION */
  int32_t device;                       /* FL_CPU or FL_GPU: where the buffers lie */
  const char* name;                     /* a word for tables, "mine" */
  const char* idea;                     /* what it is, in a few words; may be NULL */
  /* These two decide the tolerance, because they decide what rounding costs. Zero is the right value for most. */
  int32_t p_as_kv;                      /* 1: weights (and rotated q, k) are rounded to shape.dtype (tensor cores) */
  int32_t longest_chain;                /* keys that are added in float one after the other; 0: possibly all of a row */
  /* NULL: it computes this shape. Else why not: the case is then left out, and the reason is shown. */
  const char* (*supports)(const fl_plugin_shape* shape);
  /* Bytes of workspace for this shape. The function itself may be NULL: none. */
  size_t (*workspace_bytes)(const fl_plugin_shape* shape);
  /* May plan, copy, allocate and synchronise. Puts what run() needs into *state. */
  const char* (*prepare)(const fl_plugin_shape* shape, const fl_plugin_buffers* buffers, void** state);
  /* FL_GPU: only enqueues on the stream, a cudaStream_t. FL_CPU: has finished when it returns; stream is NULL. Runs again
     with the same state give the same bits. */
  const char* (*run)(void* state, void* stream);
  /* Frees the state. Called once for each prepare() that succeeded. May be NULL. */
  void (*release)(void* state);
} fl_plugin;

/* The one function that a plug-in exports. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const fl_plugin* fl_plugin_entry(void);

#ifdef __cplusplus
}
#endif
#endif
