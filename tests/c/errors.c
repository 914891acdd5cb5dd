/* What the C interface refuses, with which sentence and which parts; sizes of structs from an older and a newer caller. */
#include "check.h"

#include <pthread.h>

enum { HEADS = 4, KV_HEADS = 2, DIM = 8, PAGE = 4, PAGES = 3, BATCH = 2 };

static const int32_t indptr[] = {0, 1, 2}, last_page_len[] = {3, 1}, indices[] = {2, 0};
static float q[BATCH * HEADS * DIM], o[BATCH * HEADS * DIM], lse[BATCH * HEADS], natural[BATCH * HEADS];
static float pool[PAGES * 2 * PAGE * KV_HEADS * DIM];
static long long memory[4096];

/* All that a call needs; each case below breaks one thing. */
typedef struct valid {
  fl_logits logits;
  fl_attention_config config;
  fl_batch batch;
  fl_tensor q, o, kv5;
  fl_kv_cache kv;
  fl_attention_arguments arguments;
  fl_workspace workspace;
} valid;

static void make(valid* c) {
  memset(c, 0, sizeof *c);
  c->logits.size = sizeof c->logits;
  c->config = (fl_attention_config){.size = sizeof c->config, .num_qo_heads = HEADS, .num_kv_heads = KV_HEADS,
                                    .head_dim_qk = DIM, .page_size = PAGE, .kv_dtype = FL_F32, .threads = 1,
                                    .logits = &c->logits};
  c->batch = (fl_batch){.size = sizeof c->batch, .batch = BATCH, .paged_kv_indptr = indptr,
                        .paged_kv_last_page_len = last_page_len};
  c->q = FL_TENSOR(q, FL_F32, BATCH, HEADS, DIM);
  c->o = FL_TENSOR(o, FL_F32, BATCH, HEADS, DIM);
  c->kv5 = FL_TENSOR(pool, FL_F32, PAGES, 2, PAGE, KV_HEADS, DIM);
  c->kv = (fl_kv_cache){.size = sizeof c->kv, .k = &c->kv5};
  c->arguments = (fl_attention_arguments){.size = sizeof c->arguments, .q = &c->q, .kv = &c->kv, .o = &c->o,
                                          .lse_log2 = lse, .page_ids = indices, .num_page_ids = 2};
  c->workspace = (fl_workspace){.size = sizeof c->workspace, .device = memory, .device_bytes = sizeof memory};
}

static fl_status decode(valid* c) {
  fl_attention* attention = NULL;
  fl_status status = fl_attention_create(FL_DECODE, &c->config, NULL, &c->workspace, &attention);
  if (status == FL_OK) status = fl_attention_plan(attention, &c->batch, NULL);
  if (status == FL_OK) status = fl_attention_run(attention, &c->arguments, NULL);
  fl_attention_destroy(attention);
  return status;
}

#define BROKEN(change, sentence) \
  do {                           \
    valid c;                     \
    make(&c);                    \
    change;                      \
    REFUSED(decode(&c), sentence); \
  } while (0)

static void configs(void) {
  valid fine;
  make(&fine);
  OK(decode(&fine));
  BROKEN(c.config.num_qo_heads = 0, "num_qo_heads = 0: must be 1 .. 16384");
  BROKEN(c.config.num_qo_heads = 5, "num_qo_heads = 5: must be a multiple of num_kv_heads (2)");
  BROKEN(c.config.kv_dtype = 0, "kv_dtype = ");
  BROKEN(c.config.kv_dtype = 6, "kv_dtype = 6: must be FL_F32, FL_F16, FL_BF16, FL_F8_E4M3 or FL_F8_E5M2");
  BROKEN(c.config.kv_dtype = FL_F8_E4M3, "q_dtype = f8_e4m3: must be f32, f16 or bf16, and be given");
  BROKEN(c.config.q_dtype = FL_F16, "q_dtype = f16: must be the cache's dtype (f32)");
  BROKEN(c.config.page_size = 0, "page_size = 0: must be at least 1");
  BROKEN(c.config.device = 2, "device = 2: must be FL_CPU or FL_GPU");
  BROKEN(c.config.policy = 6, "policy = 6: must be one of FL_SPLIT_...");
  BROKEN(c.config.policy = FL_SPLIT_FIXED, "chunk_size = 0: must be a positive multiple of 64, since policy is fixed");
  BROKEN(c.config.backend = -1, "backend = -1: must be FL_BACKEND_AUTO");
  BROKEN(c.config.sinks = 2, "sinks = 2: must be 0 or 1");
  BROKEN(c.config.reserved = 1, "config.reserved = 1: must be 0");
  BROKEN(c.config.reserved2 = 1, "config.reserved2 = 1: must be 0");
  BROKEN(c.config.num_sms = -1, "num_sms = -1: must be at least 1, or 0 for all");
  BROKEN(c.logits.mask = 3, "mask = 3: must be FL_MASK_NONE, FL_MASK_CAUSAL or FL_MASK_CUSTOM");
  BROKEN(c.logits.window_left = 5, "window_left = 5: counts with use_window = 1 only");
  BROKEN((c.logits.use_window = 1, c.logits.window_left = -1), "window_left = -1: must be at least 0");
  BROKEN(c.logits.sm_scale = -1, "sm_scale = -1: must be finite and greater than 0");
  BROKEN(c.logits.sm_scale = NAN, "sm_scale = nan");
  BROKEN(c.workspace.device = NULL, "workspace.device = NULL: must not be NULL");
}

static void batches(void) {
  static const int32_t falls[] = {0, 2, 1}, empty_last[] = {3, 0};
  BROKEN(c.batch.batch = -1, "batch = -1: must not be negative");
  BROKEN(c.batch.paged_kv_indptr = NULL, "paged_kv_indptr = NULL: must not be NULL");
  BROKEN(c.batch.paged_kv_indptr = falls, "paged_kv_indptr[2] = 1 (request 1)");
  BROKEN(c.batch.paged_kv_last_page_len = empty_last,
         "paged_kv_last_page_len[1] = 0 (request 1): must be 1 .. page_size (4)");
  BROKEN(c.batch.qo_indptr = indptr, "qo_indptr = a pointer: must be NULL: a decode has one query a request");
  BROKEN(c.batch.kv_indptr = indptr, "kv_indptr = a pointer: must be NULL: this cache has pages");
  BROKEN(c.batch.seq_lens = last_page_len, "paged_kv_indptr = a pointer: must be NULL: seq_lens says");
  BROKEN(c.batch.max_pages = 1, "max_pages = 1: must be 0: there is no block table");
  BROKEN(c.batch.max_seq_len = 3, "max_seq_len = 3: must be 0, since lengths_on_device is 0");
  BROKEN(c.batch.lengths_on_device = 2, "lengths_on_device = 2: must be 0 or 1");
  BROKEN((c.batch.lengths_on_device = 1, c.batch.max_seq_len = 2), "kv_len = 3 (request 0): must be at most max_seq_len (2)");
  BROKEN(c.batch.max_qo_len = 1, "max_qo_len = 1: must be 0: it is for a prefill whose lengths lie on the device");
  BROKEN(c.batch.max_nnz_qo = 2, "max_nnz_qo = 2: must be 0: it is for a prefill whose lengths lie on the device");
  BROKEN(c.batch.page_ids = indices, "page_ids = a pointer: must be NULL: only graphs keep page ids");
  BROKEN(c.arguments.q = NULL, "q = NULL: must not be NULL");
  BROKEN(c.q.rank = 6, "q.rank = 6: must be 1 .. 5");
  BROKEN(c.q.shape[0] = 3, "q ");
  BROKEN(c.q.strides[2] = 2, "q ");
  BROKEN(c.q.dtype = 9, "q.dtype = ");
  BROKEN(c.kv.layout = 2, "kv.layout = 2: must be FL_NHD or FL_HND");
  BROKEN(c.arguments.num_page_ids = 1, "paged_kv_indices size = 1: must be at least the last entry of paged_kv_indptr (2)");
  BROKEN((c.arguments.page_ids = NULL), "page_ids = NULL: must not be NULL");
  BROKEN(c.arguments.lse_natural = natural, "lse_natural size = 8: must be 0, since lse_log2 is given: one lse or none");
  BROKEN(c.arguments.sinks = lse, "sinks size = 4: must be 0, since logits.sinks is off");
  BROKEN(c.arguments.custom_mask_bytes = 3, "custom_mask = NULL: must not be NULL");
  BROKEN(c.arguments.packed_custom_mask_bytes = 3, "packed_custom_mask = NULL: must not be NULL");
}

static void objects(void) {
  valid c;
  make(&c);
  fl_attention* attention = NULL;
  const char* text = NULL;
  size_t bytes = 0;
  const fl_attention_limits limits = {.size = sizeof limits, .max_batch = 1, .max_pages = 8};
  REFUSED(fl_attention_create(7, &c.config, NULL, &c.workspace, &attention), "kind = 7: must be one of FL_DECODE");
  REFUSED(fl_attention_create(FL_DECODE, &c.config, &limits, &c.workspace, &attention), "limits = a pointer");
  REFUSED(fl_attention_create(FL_DECODE, &c.config, NULL, &c.workspace, NULL), "out = NULL: must not be NULL");
  REFUSED(fl_attention_bytes_for_batch(FL_GRAPH_DECODE, &c.config, &c.batch, &bytes, NULL), "kind = 3: must be no graph");
  REFUSED(fl_attention_bytes_for_batch(FL_BATCH_ATTENTION, &c.config, &c.batch, &bytes, NULL), "kind = 5: must be no graph");
  REFUSED(fl_attention_create(-1, &c.config, NULL, &c.workspace, &attention), "kind = -1: must be one of FL_DECODE");
  REFUSED(fl_attention_least_device_bytes_for_batch(FL_GRAPH_DECODE, &c.config, &c.batch, &bytes),
          "kind = 3: must be no graph");
  REFUSED(fl_attention_least_device_bytes_for_limits(FL_DECODE, &c.config, &limits, NULL), "device_bytes = NULL");
  fl_attention_limits single = limits;
  single.max_qo_len = 1;
  REFUSED(fl_attention_bytes_for_limits(FL_DECODE, &c.config, &single, &bytes, NULL),
          "max_qo_len = 1: must not be given: a decode has one query a request");
  REFUSED(fl_attention_plan(NULL, &c.batch, NULL), "attention = NULL: must not be NULL");
  OK(fl_attention_create(FL_DECODE, &c.config, NULL, &c.workspace, &attention));
  REFUSED(fl_attention_run(attention, &c.arguments, NULL), "fl_attention_run: must come after plan()");
  REFUSED(fl_attention_plan_json(attention, &text), "fl_attention_plan_json: must come after plan()");
  OK(fl_attention_plan(attention, &c.batch, NULL));
  c.batch.batch = -1; /* a plan that was refused is not in force */
  REFUSED(fl_attention_plan(attention, &c.batch, NULL), "batch = -1");
  REFUSED(fl_attention_run(attention, &c.arguments, NULL), "fl_attention_run: must come after plan()");
  fl_attention_destroy(attention);
  fl_attention_destroy(NULL);

  make(&c);
  c.batch.page_ids = indices;
  c.batch.num_page_ids = 2;
  OK(fl_attention_create(FL_GRAPH_DECODE, &c.config, &limits, &c.workspace, &attention));
  REFUSED(fl_attention_plan(attention, &c.batch, NULL), "batch = 2: exceeds what was captured: max_batch 1");
  fl_attention_destroy(attention);
  const fl_attention_limits large = {.size = sizeof large, .max_batch = 1, .max_pages = 64};
  c.workspace.device_bytes = 1; /* two threads may cut 256 keys, and then there are partials */
  c.config.threads = 2;
  REFUSED(fl_attention_create(FL_GRAPH_DECODE, &c.config, &large, &c.workspace, &attention),
          "workspace.device bytes = 1: must be at least ");
  CHECK(attention == NULL);
}

/* A newer caller's struct is longer: fine while what it adds is zero. */
static void sizes(void) {
  struct newer {
    fl_attention_config config;
    int64_t added;
  } newer;
  valid c;
  size_t bytes = 0;
  make(&c);
  newer.config = c.config;
  newer.config.size = sizeof newer;
  newer.added = 0;
  OK(fl_attention_bytes_for_batch(FL_DECODE, &newer.config, &c.batch, &bytes, NULL));
  newer.added = 1;
  REFUSED(fl_attention_bytes_for_batch(FL_DECODE, &newer.config, &c.batch, &bytes, NULL),
          "config.size = 96: has fields that this version of the library does not know, and they are not zero");
  BROKEN(c.config.size = 0, "config.size = 0: must be sizeof the struct, 88 in this version");
  BROKEN(c.config.size = 76, "config.size = 76");
  make(&c); /* an older caller's struct ends before num_sms: what lies there is not looked at */
  c.config.size = 80;
  c.config.num_sms = -1;
  OK(fl_attention_bytes_for_batch(FL_DECODE, &c.config, &c.batch, &bytes, NULL));
  BROKEN(c.config.size = (size_t)1 << 40, "config.size = 1099511627776");
  BROKEN(c.batch.size = 0, "batch.size = 0");
  BROKEN(c.kv.size = 1, "kv.size = 1");
  BROKEN(c.q.size = 1, "q.size = 1");
}

static void parts(void) {
  valid c;
  make(&c);
  fl_error error = {.size = sizeof error};
  c.batch.paged_kv_last_page_len = indptr;
  REFUSED(decode(&c), "paged_kv_last_page_len[0] = 0 (request 0)");
  OK(fl_last_error_parts(&error));
  CHECK(error.status == FL_INVALID_ARGUMENT && error.request == 0);
  CHECK(strcmp(error.argument, "paged_kv_last_page_len[0]") == 0 && strcmp(error.value, "0") == 0);
  CHECK(strcmp(error.rule, "must be 1 .. page_size (4)") == 0 && strcmp(error.message, fl_last_error()) == 0);
  error.size = 4; /* asking in a wrong way does not lose the message */
  CHECK(fl_last_error_parts(&error) == FL_INVALID_ARGUMENT && fl_last_error_parts(NULL) == FL_INVALID_ARGUMENT);
  CHECK(strncmp(fl_last_error(), "paged_kv_last_page_len[0]", 25) == 0);
  CHECK(strcmp(fl_version(), FLASHLADDER_VERSION) == 0);
  if (strlen(fl_why_no_gpu()) > 0) {
    CHECK(fl_best_device() == FL_CPU);
    make(&c);
    c.config.device = FL_GPU;
    REFUSED(decode(&c), "device = gpu: ");
  }
}

/* Another thread's failure is its own, and no memory for a call is a status like any other. */
static void* fails(void* unused) {
  (void)unused;
  CHECK(strcmp(fl_last_error(), "") == 0);
  REFUSED(fl_attention_plan(NULL, NULL, NULL), "attention = NULL");
  return NULL;
}
static void threads_and_memory(void) {
  float* const out = lse;
  const int64_t size = (int64_t)INT32_MAX << 20;
  CHECK(fl_make_cos_sin_cache(INT32_MAX, 1 << 20, 0, 0, out, size) == FL_OUT_OF_MEMORY);
  CHECK(strcmp(fl_last_error(), "the host has no memory left for this call") == 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, fails, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(strcmp(fl_last_error(), "the host has no memory left for this call") == 0);
}

int main(void) {
  CHECK(strcmp(fl_last_error(), "") == 0);
  configs();
  batches();
  objects();
  sizes();
  parts();
  threads_and_memory();
  return ended();
}
