/* What is made for CUDA graphs and has a plain sister, through the C interface: ragged keys and cascades. On the CPU, where a
   replay is another run: two batches, one after the other on one memory, each with the sister's numbers, which attention.c and
   cascade.c hold to the formula. */
#include "check.h"

enum { HEADS = 4, KV_HEADS = 2, DIM = 16, PAGE = 4, PAGES = 8, ROWS = 4, MOST_ROWS = 6, TOKENS = 16 };

static float pool[PAGES * 2 * PAGE * KV_HEADS * DIM], k[TOKENS * KV_HEADS * DIM], v[TOKENS * KV_HEADS * DIM];
static float q[MOST_ROWS * HEADS * DIM], o[MOST_ROWS * HEADS * DIM], lse[MOST_ROWS * HEADS];
static float plain_o[ROWS * HEADS * DIM], plain_lse[ROWS * HEADS];
static const fl_logits causal = {.size = sizeof causal, .mask = FL_MASK_CAUSAL};

static fl_attention_config config_of(int32_t page_size) {
  return (fl_attention_config){.size = sizeof(fl_attention_config), .num_qo_heads = HEADS, .num_kv_heads = KV_HEADS,
                               .head_dim_qk = DIM, .page_size = page_size, .kv_dtype = FL_F32, .threads = 1,
                               .logits = &causal};
}
static fl_workspace workspace_of(size_t bytes) {
  void* memory = aligned_alloc(128, (bytes + 128) / 128 * 128);
  return (fl_workspace){.size = sizeof(fl_workspace), .device = memory, .device_bytes = bytes};
}
static void poison(void) {
  for (int i = 0; i < MOST_ROWS * HEADS * DIM; ++i) o[i] = NAN;
  for (int i = 0; i < MOST_ROWS * HEADS; ++i) lse[i] = NAN;
}
/* The batch's rows are the sister's, and the others are left alone. */
static void compare(int rows) {
  for (int i = 0; i < rows * HEADS * DIM; ++i) CHECK(o[i] == plain_o[i]);
  for (int i = 0; i < rows * HEADS; ++i) CHECK(lse[i] == plain_lse[i]);
  for (int i = rows * HEADS * DIM; i < MOST_ROWS * HEADS * DIM; ++i) CHECK(isnan(o[i]));
  for (int i = rows * HEADS; i < MOST_ROWS * HEADS; ++i) CHECK(isnan(lse[i]));
}

static void ragged(void) {
  const int32_t qo[2][4] = {{0, 1, 3, 4}, {0, 0, 2, 2}}, kv[2][4] = {{0, 5, 9, 16}, {0, 3, 3 + 4, 3 + 4}};
  const fl_attention_config c = config_of(1);
  const fl_attention_limits limits = {.size = sizeof limits, .max_batch = 4, .max_pages = TOKENS, .max_nnz_qo = MOST_ROWS};
  const fl_tensor tk = FL_TENSOR(k, FL_F32, TOKENS, KV_HEADS, DIM), tv = FL_TENSOR(v, FL_F32, TOKENS, KV_HEADS, DIM);
  const fl_tensor tq = FL_TENSOR(q, FL_F32, MOST_ROWS, HEADS, DIM), to = FL_TENSOR(o, FL_F32, MOST_ROWS, HEADS, DIM);
  const fl_kv_cache cache = {.size = sizeof cache, .k = &tk, .v = &tv};
  const fl_attention_arguments arguments = {.size = sizeof arguments, .q = &tq, .kv = &cache, .o = &to, .lse_log2 = lse};
  fl_attention *graph = NULL, *plain = NULL;
  size_t bytes = 0, staging = 1;
  OK(fl_attention_bytes_for_limits(FL_GRAPH_RAGGED_PREFILL, &c, &limits, &bytes, &staging));
  CHECK(staging == 0);
  const fl_workspace memory = workspace_of(bytes);
  OK(fl_attention_create(FL_GRAPH_RAGGED_PREFILL, &c, &limits, &memory, &graph));
  for (int b = 0; b < 2; ++b) {
    fl_batch batch = {.size = sizeof batch, .batch = 3, .qo_indptr = qo[b], .kv_indptr = kv[b]};
    const int32_t rows = qo[b][3];
    poison();
    OK(fl_attention_plan(graph, &batch, NULL));
    OK(fl_attention_run(graph, &arguments, NULL));
    OK(fl_attention_bytes_for_batch(FL_RAGGED_PREFILL, &c, &batch, &bytes, &staging));
    const fl_workspace own = workspace_of(bytes);
    const fl_tensor few_q = FL_TENSOR(q, FL_F32, rows, HEADS, DIM), few_o = FL_TENSOR(plain_o, FL_F32, rows, HEADS, DIM);
    const fl_attention_arguments few = {.size = sizeof few, .q = &few_q, .kv = &cache, .o = &few_o, .lse_log2 = plain_lse};
    OK(fl_attention_create(FL_RAGGED_PREFILL, &c, NULL, &own, &plain));
    OK(fl_attention_plan(plain, &batch, NULL));
    OK(fl_attention_run(plain, &few, NULL));
    fl_attention_destroy(plain);
    compare(rows);
    batch.page_ids = qo[b], batch.num_page_ids = 3;
    REFUSED(fl_attention_plan(graph, &batch, NULL), "page_ids = a pointer: must be NULL: a ragged cache has none");
  }
  const int32_t most[] = {0, 2, 2, 17};
  const fl_batch long_one = {.size = sizeof long_one, .batch = 3, .qo_indptr = qo[0], .kv_indptr = most};
  REFUSED(fl_attention_plan(graph, &long_one, NULL), "tokens = 17: exceeds what was captured: max_pages 16");
  REFUSED(fl_attention_create(FL_GRAPH_RAGGED_PREFILL, &c, NULL, &memory, &plain), "limits = NULL: must not be NULL");
  REFUSED(fl_attention_create(7, &c, NULL, &memory, &plain), "kind = 7: must be one of FL_DECODE .. FL_GRAPH_RAGGED_PREFILL");
  fl_attention_destroy(graph);
}

/* Requests of 1, 2 and 1 rows, of which the first two share pages 5 and 2; then of 2, 0 and 0, whose prefix is page 4. */
static const int32_t rows0[2][3] = {{0, 3, 4}, {0, 2, 2}}, pages0[2][3] = {{0, 2, 2}, {0, 1, 1}}, ids0[2][2] = {{5, 2}, {4}};
static const int32_t rows1[2][4] = {{0, 1, 3, 4}, {0, 2, 2, 2}}, pages1[2][4] = {{0, 1, 2, 3}, {0, 1, 1, 1}};
static const int32_t ids1[2][3] = {{0, 7, 3}, {6}}, last0[2][2] = {{4, 0}, {4, 0}}, last1[2][3] = {{3, 4, 2}, {3, 0, 0}};

static void cascade(void) {
  const fl_attention_config c = config_of(PAGE);
  const fl_attention_limits most[] = {{.size = sizeof most[0], .max_batch = 2, .max_pages = 2, .max_nnz_qo = MOST_ROWS},
                                      {.size = sizeof most[0], .max_batch = 3, .max_pages = 3, .max_nnz_qo = MOST_ROWS}};
  const fl_attention_limits* const limits[] = {&most[0], &most[1]};
  const fl_tensor kv5 = FL_TENSOR(pool, FL_F32, PAGES, 2, PAGE, KV_HEADS, DIM);
  const fl_kv_cache cache = {.size = sizeof cache, .k = &kv5};
  const fl_tensor tq = FL_TENSOR(q, FL_F32, MOST_ROWS, HEADS, DIM), to = FL_TENSOR(o, FL_F32, MOST_ROWS, HEADS, DIM);
  const fl_attention_arguments arguments = {.size = sizeof arguments, .q = &tq, .kv = &cache, .o = &to, .lse_log2 = lse};
  fl_cascade *graph = NULL, *plain = NULL;
  const char* text = NULL;
  size_t bytes = 0, staging = 1, least = 0;
  OK(fl_cascade_graph_bytes(&c, limits, 2, &bytes, &staging, &least));
  CHECK(staging == 0 && least == bytes);
  const fl_workspace memory = workspace_of(bytes);
  OK(fl_cascade_graph_create(2, &c, limits, &memory, &graph));
  REFUSED(fl_cascade_run(graph, &arguments, NULL, NULL, 2, NULL), "fl_cascade_run: must come after plan()");
  for (int b = 0; b < 2; ++b) {
    fl_batch l0 = {.size = sizeof l0, .batch = 2, .qo_indptr = rows0[b], .paged_kv_indptr = pages0[b],
                   .paged_kv_last_page_len = last0[b]};
    fl_batch l1 = {.size = sizeof l1, .batch = 3, .qo_indptr = rows1[b], .paged_kv_indptr = pages1[b],
                   .paged_kv_last_page_len = last1[b]};
    const fl_batch* const levels[] = {&l0, &l1};
    const int32_t* const ids[] = {ids0[b], ids1[b]};
    const int64_t counts[] = {pages0[b][2], pages1[b][3]};
    const int32_t rows = rows1[b][3];
    OK(fl_cascade_bytes_for_batch(&c, levels, 2, &bytes, &staging, NULL));
    const fl_workspace own = workspace_of(bytes);
    const fl_tensor few_q = FL_TENSOR(q, FL_F32, rows, HEADS, DIM), few_o = FL_TENSOR(plain_o, FL_F32, rows, HEADS, DIM);
    const fl_attention_arguments few = {.size = sizeof few, .q = &few_q, .kv = &cache, .o = &few_o, .lse_log2 = plain_lse};
    OK(fl_cascade_create(2, &c, &own, &plain));
    OK(fl_cascade_plan(plain, levels, 2, NULL));
    OK(fl_cascade_run(plain, &few, ids, counts, 2, NULL));
    REFUSED(fl_cascade_plan(graph, levels, 2, NULL), "levels[0].paged_kv_indices size = 0: must be at least");
    l0.page_ids = ids[0], l0.num_page_ids = counts[0], l1.page_ids = ids[1], l1.num_page_ids = counts[1];
    REFUSED(fl_cascade_plan(plain, levels, 2, NULL), "levels[0].page_ids = a pointer: must be NULL: fl_cascade_run takes");
    fl_cascade_destroy(plain);
    poison();
    OK(fl_cascade_plan(graph, levels, 2, NULL));
    OK(fl_cascade_run(graph, &arguments, NULL, NULL, 2, NULL));
    compare(rows);
    REFUSED(fl_cascade_run(graph, &arguments, ids, NULL, 2, NULL), "page_ids = a pointer: must be NULL: a graph keeps");
    REFUSED(fl_cascade_run(graph, &arguments, NULL, NULL, 1, NULL), "num_levels = 1: must be the graph's");
    OK(fl_cascade_explain(graph, &text));
    CHECK(strstr(text, "level 1: C4") != NULL);
    OK(fl_cascade_plan_json(graph, 1, &text));
    CHECK(strstr(text, "\"kv_lens\":[3,") != NULL);
    l1.page_ids_on = FL_GPU;
    REFUSED(fl_cascade_plan(graph, levels, 2, NULL), "levels[1].page_ids_on = 1: must be that of level 0");
  }
  fl_cascade_destroy(graph);
  REFUSED(fl_cascade_graph_create(2, &c, NULL, &memory, &graph), "levels = NULL: must not be NULL");
  CHECK(graph == NULL);
}

int main(void) {
  draw(pool, sizeof pool / sizeof *pool, 1);
  draw(k, sizeof k / sizeof *k, 2);
  draw(v, sizeof v / sizeof *v, 3);
  draw(q, sizeof q / sizeof *q, 4);
  ragged();
  cascade();
  return ended();
}
