/* A cascade through the C interface against one flat prefill over the same keys, and what it refuses. */
#include "check.h"

enum { HEADS = 4, KV_HEADS = 2, DIM = 16, PAGE = 4, PAGES = 8, ROWS = 4 };

static float pool[PAGES * 2 * PAGE * KV_HEADS * DIM], q[ROWS * HEADS * DIM], o[ROWS * HEADS * DIM], flat_o[ROWS * HEADS * DIM];
static float lse[ROWS * HEADS], flat_lse[ROWS * HEADS], sinks[HEADS] = {0.5f, -1.0f, 2.0f, 0.0f};

/* Requests of 1, 2 and 1 rows. The first two share pages 5 and 2; their own keys, and those of the third, are in 0, 7, 3. */
static const int32_t shared_rows[] = {0, 3, 4}, shared_indptr[] = {0, 2, 2}, shared_last[] = {4, 0}, shared_ids[] = {5, 2};
static const int32_t own_rows[] = {0, 1, 3, 4}, own_indptr[] = {0, 1, 2, 3}, own_last[] = {3, 4, 2}, own_ids[] = {0, 7, 3};
static const int32_t flat_indptr[] = {0, 3, 6, 7}, flat_ids[] = {5, 2, 0, 5, 2, 7, 3};

static void* memory(size_t bytes) { return aligned_alloc(128, (bytes + 128) / 128 * 128); }

static void flat(const fl_attention_config* config, fl_attention_arguments arguments) {
  const fl_batch batch = {.size = sizeof batch, .batch = 3, .qo_indptr = own_rows, .paged_kv_indptr = flat_indptr,
                          .paged_kv_last_page_len = own_last};
  const fl_tensor out = FL_TENSOR(flat_o, FL_F32, ROWS, HEADS, DIM);
  fl_attention* attention = NULL;
  size_t bytes = 0, staging = 0;
  arguments.o = &out, arguments.lse_log2 = flat_lse, arguments.page_ids = flat_ids, arguments.num_page_ids = 7;
  OK(fl_attention_bytes_for_batch(FL_PREFILL, config, &batch, &bytes, &staging));
  const fl_workspace workspace = {.size = sizeof workspace, .device = memory(bytes), .device_bytes = bytes};
  OK(fl_attention_create(FL_PREFILL, config, NULL, &workspace, &attention));
  OK(fl_attention_plan(attention, &batch, NULL));
  OK(fl_attention_run(attention, &arguments, NULL));
  fl_attention_destroy(attention);
}

int main(void) {
  draw(pool, sizeof pool / sizeof *pool, 1);
  draw(q, sizeof q / sizeof *q, 2);
  const fl_logits logits = {.size = sizeof logits, .mask = FL_MASK_CAUSAL, .logits_soft_cap = 2};
  fl_attention_config config = {.size = sizeof config, .num_qo_heads = HEADS, .num_kv_heads = KV_HEADS, .head_dim_qk = DIM,
                                .page_size = PAGE, .kv_dtype = FL_F32, .sinks = 1, .threads = 1, .logits = &logits};
  const fl_tensor kv5 = FL_TENSOR(pool, FL_F32, PAGES, 2, PAGE, KV_HEADS, DIM);
  const fl_kv_cache kv = {.size = sizeof kv, .k = &kv5};
  const fl_tensor tq = FL_TENSOR(q, FL_F32, ROWS, HEADS, DIM), to = FL_TENSOR(o, FL_F32, ROWS, HEADS, DIM);
  fl_attention_arguments arguments = {.size = sizeof arguments, .q = &tq, .kv = &kv, .o = &to, .lse_log2 = lse,
                                      .sinks = sinks};
  flat(&config, arguments);

  fl_batch shared = {.size = sizeof shared, .batch = 2, .qo_indptr = shared_rows, .paged_kv_indptr = shared_indptr,
                     .paged_kv_last_page_len = shared_last};
  const fl_batch own = {.size = sizeof own, .batch = 3, .qo_indptr = own_rows, .paged_kv_indptr = own_indptr,
                        .paged_kv_last_page_len = own_last};
  const fl_batch* const levels[] = {&shared, &own};
  const int32_t* const ids[] = {shared_ids, own_ids};
  const int64_t counts[] = {2, 3};
  size_t bytes = 0, staging = 1, least = 0, for_limits = 0;
  OK(fl_cascade_bytes_for_batch(&config, levels, 2, &bytes, &staging, &least));
  CHECK(staging == 0 && least == bytes && bytes >= sizeof(float) * ROWS * HEADS * (2 * DIM + 3));
  const fl_attention_limits most = {.size = sizeof most, .max_batch = 3, .max_pages = 3, .max_nnz_qo = ROWS};
  const fl_attention_limits* const limits[] = {&most, &most};
  OK(fl_cascade_bytes_for_limits(&config, limits, 2, &for_limits, NULL, NULL));
  CHECK(for_limits >= bytes);

  const fl_workspace workspace = {.size = sizeof workspace, .device = memory(bytes), .device_bytes = bytes};
  fl_cascade* cascade = NULL;
  const char* text = NULL;
  OK(fl_cascade_create(2, &config, &workspace, &cascade));
  REFUSED(fl_cascade_run(cascade, &arguments, ids, counts, 2, NULL), "fl_cascade_run: must come after plan()");
  REFUSED(fl_cascade_plan_json(cascade, 0, &text), "fl_cascade_plan_json: must come after plan()");
  OK(fl_cascade_plan(cascade, levels, 2, NULL));
  OK(fl_cascade_run(cascade, &arguments, ids, counts, 2, NULL));
  for (int i = 0; i < ROWS * HEADS * DIM; ++i) CHECK(close_to(o[i], flat_o[i], 1e-5));
  for (int i = 0; i < ROWS * HEADS; ++i) CHECK(close_to(lse[i], flat_lse[i], 1e-5));
  OK(fl_cascade_explain(cascade, &text));
  CHECK(strstr(text, "level 1: C4") != NULL);
  OK(fl_cascade_plan_json(cascade, 0, &text));
  CHECK(strstr(text, "\"kv_lens\":[8,0]") != NULL);

  REFUSED(fl_cascade_plan_json(cascade, 2, &text), "level = 2: must be 0 .. num_levels - 1");
  REFUSED(fl_cascade_run(cascade, &arguments, ids, counts, 1, NULL), "page_ids size = 1: must be num_levels (2)");
  REFUSED(fl_cascade_plan(cascade, levels, 1, NULL), "levels size = 1: must be num_levels (2)");
  shared.seq_lens = own_last;
  REFUSED(fl_cascade_plan(cascade, levels, 2, NULL), "levels[0].seq_lens = a pointer: must be NULL");
  shared.seq_lens = NULL;
  shared.paged_kv_indptr = NULL;
  REFUSED(fl_cascade_plan(cascade, levels, 2, NULL), "levels[0].paged_kv_indptr = NULL: must not be NULL");
  shared.paged_kv_indptr = shared_indptr;
  shared.size = 1;
  REFUSED(fl_cascade_plan(cascade, levels, 2, NULL), "levels[0].size = 1: must be sizeof the struct");
  REFUSED(fl_cascade_plan(cascade, NULL, 2, NULL), "levels = NULL: must not be NULL");
  REFUSED(fl_cascade_plan(NULL, levels, 2, NULL), "cascade = NULL: must not be NULL");
  REFUSED(fl_cascade_run(cascade, &arguments, ids, counts, 2, NULL), "fl_cascade_run: must come after plan()");
  fl_cascade_destroy(cascade);
  REFUSED(fl_cascade_create(0, &config, &workspace, &cascade), "num_levels = 0: must be at least 1");
  CHECK(cascade == NULL);
  fl_cascade_destroy(NULL);
  return ended();
}
