/* FlashInfer's calls over a block table through the C interface: each gives what fl_attention gives for the same batch, which
   tests/c/attention.c holds to the formula. */
#include "check.h"

enum { HEADS = 4, KV_HEADS = 2, DIM = 16, PAGE = 4, PAGES = 12, BATCH = 3, ROWS = 8 };

static const int32_t seq_lens[] = {7, 0, 9}, block_tables[] = {3, 1, -1, -1, -1, -1, 5, 0, 8}, cum_q[] = {0, 3, 3, 8};
static float pool[PAGES * 2 * PAGE * KV_HEADS * DIM], q[ROWS * HEADS * DIM], sinks[HEADS] = {0.5f, -1.0f, 2.0f, 0.0f};
static float o[ROWS * HEADS * DIM], lse[ROWS * HEADS], wanted_o[ROWS * HEADS * DIM], wanted_lse[ROWS * HEADS];
static long long memory[8192];
static const fl_workspace workspace = {.size = sizeof workspace, .device = memory, .device_bytes = sizeof memory};

/* By plan and run. */
static void by_plan(int32_t kind, const int32_t* qo_indptr, const fl_logits* logits, const uint8_t* mask, int use_sinks,
                    int32_t rows, const fl_kv_cache* kv) {
  const fl_tensor tq = FL_TENSOR(q, FL_F32, rows, HEADS, DIM), to = FL_TENSOR(wanted_o, FL_F32, rows, HEADS, DIM);
  const fl_attention_config config = {.size = sizeof config, .num_qo_heads = HEADS, .num_kv_heads = KV_HEADS,
                                      .head_dim_qk = DIM, .page_size = PAGE, .kv_dtype = FL_F32, .sinks = use_sinks,
                                      .logits = logits};
  const fl_batch batch = {.size = sizeof batch, .batch = BATCH, .max_pages = 3, .seq_lens = seq_lens,
                          .qo_indptr = qo_indptr};
  const fl_attention_arguments arguments = {.size = sizeof arguments, .q = &tq, .kv = kv, .o = &to, .lse_log2 = wanted_lse,
                                            .page_ids = block_tables, .num_page_ids = 9,
                                            .sinks = use_sinks ? sinks : NULL, .custom_mask = mask,
                                            .custom_mask_bytes = mask == NULL ? 0 : 2 * 7 + 2 * 9};
  fl_attention* attention = NULL;
  OK(fl_attention_create(kind, &config, NULL, &workspace, &attention));
  OK(fl_attention_plan(attention, &batch, NULL));
  OK(fl_attention_run(attention, &arguments, NULL));
  fl_attention_destroy(attention);
}

static void same(int32_t which, fl_serving_call call, int32_t rows) {
  const fl_tensor tq = FL_TENSOR(q, FL_F32, rows, HEADS, DIM), to = FL_TENSOR(o, FL_F32, rows, HEADS, DIM);
  size_t device = 0, staging = 1;
  for (int i = 0; i < ROWS * HEADS * DIM; ++i) o[i] = NAN;
  call.q = &tq;
  call.o = &to;
  call.lse_log2 = lse;
  OK(fl_serving_bytes(which, &call, NULL, &device, &staging));
  CHECK(staging == 0 && device <= sizeof memory);
  call.workspace_buffer = &workspace;
  OK(fl_serving_run(which, &call, NULL));
  for (int i = 0; i < rows * HEADS * DIM; ++i) CHECK(o[i] == wanted_o[i]);
  for (int i = 0; i < rows * HEADS; ++i) CHECK(lse[i] == wanted_lse[i]);
}

/* Two queries of every request, causal and with a mask by which query 0 sees itself and query 1, and query 1 not query 0. */
static const int32_t two_each[] = {0, 2, 4, 6};
static const uint32_t draft_mask[] = {3, 2, 3, 2, 3, 2};

static void drafts(const fl_kv_cache* kv) {
  uint8_t bytes[2 * 7 + 2 * 9];
  fl_logits logits = {.size = sizeof logits, .sm_scale = 0.5f, .mask = FL_MASK_CAUSAL};
  fl_serving_call call = {.size = sizeof call, .kv = kv, .block_tables = block_tables, .seq_lens = seq_lens, .batch = BATCH,
                          .max_pages = 3, .max_q_len = 2, .max_kv_len = 12, .bmm1_scale = 0.5f, .sinks = sinks};
  fl_serving_call xqa = call;
  xqa.max_kv_len = 0;
  xqa.bmm1_scale = 2.0f;
  by_plan(FL_PREFILL, two_each, &logits, NULL, 1, 6, kv);
  same(FL_TRTLLM_BATCH_DECODE, call, 6);
  same(FL_XQA, xqa, 6);
  memset(bytes, 1, sizeof bytes);
  bytes[7 + 5] = bytes[14 + 9 + 7] = 0;
  logits.mask = FL_MASK_CUSTOM;
  by_plan(FL_PREFILL, two_each, &logits, bytes, 1, 6, kv);
  call.mask = xqa.mask = draft_mask;
  same(FL_TRTLLM_BATCH_DECODE, call, 6);
  same(FL_XQA, xqa, 6);
}

int main(void) {
  const fl_tensor kv5 = FL_TENSOR(pool, FL_F32, PAGES, 2, PAGE, KV_HEADS, DIM);
  const fl_kv_cache kv = {.size = sizeof kv, .k = &kv5};
  draw(pool, sizeof pool / sizeof pool[0], 1);
  draw(q, sizeof q / sizeof q[0], 2);
  fl_logits logits = {.size = sizeof logits, .sm_scale = 0.5f, .use_window = 1, .window_left = 3};
  fl_serving_call call = {.size = sizeof call, .kv = &kv, .block_tables = block_tables, .seq_lens = seq_lens, .batch = BATCH,
                          .max_pages = 3, .max_kv_len = 12, .bmm1_scale = 0.5f, .use_window = 1, .window_left = 3,
                          .sinks = sinks};
  by_plan(FL_DECODE, NULL, &logits, NULL, 1, BATCH, &kv);
  same(FL_TRTLLM_BATCH_DECODE, call, BATCH);
  fl_serving_call xqa = call;
  xqa.max_kv_len = 0;
  xqa.bmm1_scale = 2.0f; /* times 1 / sqrt(16) */
  same(FL_XQA, xqa, BATCH);

  fl_serving_call prefill = call;
  prefill.cum_seq_lens_q = cum_q;
  prefill.max_q_len = 5;
  logits.mask = FL_MASK_CAUSAL;
  by_plan(FL_PREFILL, cum_q, &logits, NULL, 1, ROWS, &kv);
  same(FL_TRTLLM_BATCH_CONTEXT, prefill, ROWS);
  prefill.lengths_on_device = 1; /* which is the CPU here; so few keys are not cut anyway */
  same(FL_TRTLLM_BATCH_CONTEXT, prefill, ROWS);
  prefill.lengths_on_device = 0;

  logits.use_window = logits.window_left = 0;
  prefill.use_window = prefill.window_left = call.use_window = call.window_left = 0;
  prefill.sinks = call.sinks = NULL;
  prefill.causal = 1;
  by_plan(FL_PREFILL, cum_q, &logits, NULL, 0, ROWS, &kv);
  same(FL_CUDNN_BATCH_PREFILL, prefill, ROWS);
  fl_serving_call there = prefill;
  const int32_t lens_q[] = {3, 0, 5};
  there.lengths_on_device = 1;
  there.cum_seq_lens_q = NULL;
  there.seq_lens_q = lens_q;
  same(FL_CUDNN_BATCH_PREFILL, there, ROWS);
  logits.mask = FL_MASK_NONE;
  by_plan(FL_DECODE, NULL, &logits, NULL, 0, BATCH, &kv);
  same(FL_CUDNN_BATCH_DECODE, call, BATCH);
  drafts(&kv);
  by_plan(FL_DECODE, NULL, &logits, NULL, 0, BATCH, &kv);

  const fl_tensor tq = FL_TENSOR(q, FL_F32, BATCH, HEADS, DIM), to = FL_TENSOR(o, FL_F32, BATCH, HEADS, DIM);
  call.q = &tq;
  call.o = &to;
  call.workspace_buffer = &workspace;
  REFUSED(fl_serving_run(5, &call, NULL), "which = 5: must be one of FL_TRTLLM_BATCH_DECODE .. FL_XQA");
  call.bmm2_scale = 0.5f;
  for (int i = 0; i < BATCH * HEADS * DIM; ++i) wanted_o[i] *= 0.5f; /* bmm2_scale multiplies o, exactly where it is 1/2 */
  same(FL_TRTLLM_BATCH_DECODE, call, BATCH);
  REFUSED(fl_serving_run(FL_CUDNN_BATCH_DECODE, &call, NULL), "bmm2_scale = 0.5: must be 1, or 0 for 1");
  call.bmm2_scale = -1;
  REFUSED(fl_serving_run(FL_TRTLLM_BATCH_DECODE, &call, NULL), "bmm2_scale = -1: must be finite and greater than 0");
  call.bmm2_scale = 0;
  fl_kv_cache scaled = kv;
  scaled.k_scale = 2;
  call.kv = &scaled;
  REFUSED(fl_serving_run(FL_XQA, &call, NULL), "kv.k_scale = 2: must be 0 here: bmm1_scale and bmm2_scale");
  call.kv = &kv;
  call.causal = 1;
  REFUSED(fl_serving_run(FL_XQA, &call, NULL), "causal = 1: must be 0: it is cuDNN's prefill's");
  call.causal = 0;
  call.max_q_len = 1;
  REFUSED(fl_serving_run(FL_CUDNN_BATCH_DECODE, &call, NULL), "max_q_len = 1: must be 0: this decode has one query a request");
  call.max_q_len = 0;
  call.mask = draft_mask;
  REFUSED(fl_serving_run(FL_CUDNN_BATCH_DECODE, &call, NULL), "mask = a pointer: must be NULL: it is of trtllm's decode");
  call.mask = NULL;
  call.max_kv_len = 8;
  REFUSED(fl_serving_run(FL_TRTLLM_BATCH_DECODE, &call, NULL), "kv_len = 9 (request 2): must be at most max_seq_len (8)");
  REFUSED(fl_serving_run(FL_TRTLLM_BATCH_DECODE, NULL, NULL), "call = NULL");
  call.max_kv_len = -3;
  REFUSED(fl_serving_run(FL_CUDNN_BATCH_DECODE, &call, NULL), "max_kv_len = -3: must not be negative");
  call.max_kv_len = 0;
  call.batch = call.max_pages = -1;
  REFUSED(fl_serving_run(FL_XQA, &call, NULL), "batch = -1: must not be negative");
  call.batch = BATCH, call.max_pages = 3;
  call.window_left = -1;
  OK(fl_serving_run(FL_XQA, &call, NULL)); /* as in fl_logits: none */
  call.use_window = 1;
  call.window_left = INT32_MAX;
  OK(fl_serving_run(FL_XQA, &call, NULL));
  const int32_t shifted[] = {1, 2, 3, 4};
  prefill.q = &tq;
  prefill.o = &to;
  prefill.workspace_buffer = &workspace;
  there = prefill;
  there.seq_lens_q = shifted;
  REFUSED(fl_serving_run(FL_CUDNN_BATCH_PREFILL, &there, NULL), "seq_lens_q = a pointer: must be NULL: it is cuDNN's prefill's");
  there.lengths_on_device = 1;
  REFUSED(fl_serving_run(FL_CUDNN_BATCH_PREFILL, &there, NULL), "cum_seq_lens_q = a pointer: must be NULL: seq_lens_q says");
  call.lengths_on_device = 1;
  REFUSED(fl_serving_run(FL_TRTLLM_BATCH_DECODE, &call, NULL), "lengths_on_device = 1: must be 0: it is a prefill's");
  call.lengths_on_device = 0;
  prefill.cum_seq_lens_q = shifted;
  REFUSED(fl_serving_run(FL_CUDNN_BATCH_PREFILL, &prefill, NULL), "cum_seq_lens_q[0] = 1: must be the start (0)");
  return ended();
}
