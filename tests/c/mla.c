/* Latent attention through the C interface: what fl_attention gives for the same rows as keys and values of one KV head; of a
   cache of two tensors and of one; the append; and refusals. */
#include "check.h"

enum { HEADS = 5, CKV = 16, KPE = 8, WIDTH = CKV + KPE, PAGE = 4, PAGES = 6, BATCH = 3, ROWS = 6, NEW = 2 };

static const int32_t qo_indptr[] = {0, 2, 2, 6}, kv_indptr[] = {0, 2, 2, 5}, last[] = {3, 0, 1};
static const int32_t page_ids[] = {3, 1, 5, 0, 2};
static float both[PAGES * PAGE * WIDTH], ckv[PAGES * PAGE * CKV], kpe[PAGES * PAGE * KPE];
static float q[ROWS * HEADS * WIDTH], q_nope[ROWS * HEADS * CKV], q_pe[ROWS * HEADS * KPE];
static float o[ROWS * HEADS * CKV], lse[ROWS * HEADS], wanted_o[ROWS * HEADS * CKV], wanted_lse[ROWS * HEADS];
static long long memory[8192];
static const fl_workspace workspace = {.size = sizeof workspace, .device = memory, .device_bytes = sizeof memory};
static const fl_batch batch = {.size = sizeof batch, .batch = BATCH, .qo_indptr = qo_indptr, .paged_kv_indptr = kv_indptr,
                               .paged_kv_last_page_len = last, .page_ids = page_ids, .num_page_ids = 5};
static const fl_attention_limits limits = {.size = sizeof limits, .max_batch = BATCH, .max_pages = 5, .max_nnz_qo = ROWS};

static void cut(const float* from, float* first, float* second, int rows) {
  int r, x;
  for (r = 0; r < rows; ++r) {
    for (x = 0; x < CKV; ++x) first[r * CKV + x] = from[r * WIDTH + x];
    for (x = 0; x < KPE; ++x) second[r * KPE + x] = from[r * WIDTH + CKV + x];
  }
}

/* As attention: K is the rows, V the first CKV features of them. */
static void by_attention(void) {
  const fl_tensor tq = FL_TENSOR(q, FL_F32, ROWS, HEADS, WIDTH), to = FL_TENSOR(wanted_o, FL_F32, ROWS, HEADS, CKV);
  const fl_tensor k = FL_TENSOR(both, FL_F32, PAGES, PAGE, 1, WIDTH);
  fl_tensor v = k;
  v.shape[3] = CKV;
  const fl_kv_cache kv = {.size = sizeof kv, .k = &k, .v = &v};
  const fl_logits logits = {.size = sizeof logits, .sm_scale = 0.3f, .mask = FL_MASK_CAUSAL};
  const fl_attention_config config = {.size = sizeof config, .num_qo_heads = HEADS, .num_kv_heads = 1, .head_dim_qk = WIDTH,
                                      .head_dim_vo = CKV, .page_size = PAGE, .kv_dtype = FL_F32, .logits = &logits};
  const fl_attention_arguments arguments = {.size = sizeof arguments, .q = &tq, .kv = &kv, .o = &to, .lse_log2 = wanted_lse};
  fl_attention* attention = NULL;
  OK(fl_attention_create(FL_GRAPH_PREFILL, &config, &limits, &workspace, &attention));
  OK(fl_attention_plan(attention, &batch, NULL));
  OK(fl_attention_run(attention, &arguments, NULL));
  fl_attention_destroy(attention);
}

static void same(fl_mla* mla, const fl_mla_cache* cache) {
  const fl_tensor nope = FL_TENSOR(q_nope, FL_F32, ROWS, HEADS, CKV), pe = FL_TENSOR(q_pe, FL_F32, ROWS, HEADS, KPE);
  const fl_tensor to = FL_TENSOR(o, FL_F32, ROWS, HEADS, CKV);
  const fl_mla_arguments arguments = {.size = sizeof arguments, .q_nope = &nope, .q_pe = &pe, .cache = cache, .o = &to,
                                      .lse_log2 = lse};
  int i;
  for (i = 0; i < ROWS * HEADS * CKV; ++i) o[i] = NAN;
  OK(fl_mla_run(mla, &arguments, NULL));
  for (i = 0; i < ROWS * HEADS * CKV; ++i) CHECK(close_to(o[i], wanted_o[i], 1e-5));
  for (i = 0; i < ROWS * HEADS; ++i) CHECK(close_to(lse[i], wanted_lse[i], 1e-5));
}

/* Two new tokens: in the cache of two tensors each lands where it lands in that of one. */
static void append(const fl_mla_cache* one, const fl_mla_cache* two) {
  static float fresh[NEW * WIDTH], fresh_ckv[NEW * CKV], fresh_kpe[NEW * KPE], wanted[PAGES * PAGE * WIDTH];
  static float a[PAGES * PAGE * CKV], b[PAGES * PAGE * KPE];
  const int32_t requests[NEW] = {2, 0}, positions[NEW] = {8, 6};
  const fl_page_lists pages = {.size = sizeof pages, .indptr = kv_indptr, .indices = page_ids, .last_page_len = last,
                               .num_indices = 5, .batch = BATCH};
  const fl_tensor rows = FL_TENSOR(fresh_ckv, FL_F32, NEW, CKV), pe = FL_TENSOR(fresh_kpe, FL_F32, NEW, KPE);
  int x;
  draw(fresh, sizeof fresh / sizeof fresh[0], 9);
  cut(fresh, fresh_ckv, fresh_kpe, NEW);
  memcpy(wanted, both, sizeof both);
  for (x = 0; x < WIDTH; ++x) {
    wanted[(2 * PAGE + 0) * WIDTH + x] = fresh[x];          /* token 8 of request 2: page 2, entry 0 */
    wanted[(1 * PAGE + 2) * WIDTH + x] = fresh[WIDTH + x];  /* token 6 of request 0: page 1, entry 2 */
  }
  OK(fl_append_paged_mla_kv_cache(&rows, &pe, requests, positions, one, &pages, NULL));
  OK(fl_append_paged_mla_kv_cache(&rows, &pe, requests, positions, two, &pages, NULL));
  CHECK(memcmp(both, wanted, sizeof both) == 0);
  cut(wanted, a, b, PAGES * PAGE);
  CHECK(memcmp(ckv, a, sizeof a) == 0);
  CHECK(memcmp(kpe, b, sizeof b) == 0);
  REFUSED(fl_append_paged_mla_kv_cache(&pe, &pe, requests, positions, two, &pages, NULL), "append_ckv = ");
}

/* Over a block table, two queries a request or one, whose lengths lie where it runs: the rows of fl_mla. */
static void by_table(fl_mla* mla, const fl_mla_cache* cache, int32_t q_len) {
  const int32_t tables[] = {3, 1, -1, -1, -1, -1, 5, 0, 2}, lens[] = {7, 0, 9}, each[] = {0, q_len, 2 * q_len, 3 * q_len};
  const fl_tensor nope = FL_TENSOR(q_nope, FL_F32, ROWS, HEADS, CKV), pe = FL_TENSOR(q_pe, FL_F32, ROWS, HEADS, KPE);
  const fl_tensor to = FL_TENSOR(wanted_o, FL_F32, ROWS, HEADS, CKV);
  const fl_mla_arguments arguments = {.size = sizeof arguments, .q_nope = &nope, .q_pe = &pe, .cache = cache, .o = &to,
                                      .lse_log2 = wanted_lse};
  const fl_batch lists = {.size = sizeof lists, .batch = BATCH, .qo_indptr = each, .paged_kv_indptr = kv_indptr,
                          .paged_kv_last_page_len = last, .page_ids = page_ids, .num_page_ids = 5};
  const fl_tensor tq = FL_TENSOR(q, FL_F32, BATCH, q_len, HEADS, WIDTH), out = FL_TENSOR(o, FL_F32, BATCH, q_len, HEADS, CKV);
  fl_mla_decode_call call = {.size = sizeof call, .query = &tq, .o = &out, .kv_cache = cache, .block_tables = tables,
                             .seq_lens = lens, .lse_log2 = lse, .batch = BATCH, .max_pages = 3, .max_seq_len = 12,
                             .bmm1_scale = 0.3f};
  fl_mla_cache scaled = *cache;
  size_t device = 0, staging = 1;
  int i;
  OK(fl_mla_plan(mla, &lists, NULL));
  OK(fl_mla_run(mla, &arguments, NULL));
  for (i = 0; i < ROWS * HEADS * CKV; ++i) o[i] = NAN;
  OK(fl_mla_decode_bytes(&call, NULL, &device, &staging));
  CHECK(device <= sizeof memory && staging == 0);
  call.workspace_buffer = &workspace;
  OK(fl_mla_decode_run(&call, NULL));
  for (i = 0; i < 3 * q_len * HEADS * CKV; ++i) CHECK(close_to(o[i], wanted_o[i], 1e-5));
  for (i = 0; i < 3 * q_len * HEADS; ++i) CHECK(lse[i] == wanted_lse[i] || close_to(lse[i], wanted_lse[i], 1e-5)); /* -inf */
  call.bmm2_scale = 2.0f;
  OK(fl_mla_decode_run(&call, NULL));
  CHECK(close_to(o[0], 2 * wanted_o[0], 1e-5));
  scaled.ckv_scale = 2.0f;
  call.kv_cache = &scaled;
  REFUSED(fl_mla_decode_run(&call, NULL), "kv_cache.ckv_scale = 2: must be 0 here");
  call.kv_cache = cache;
  call.bmm1_scale = 0;
  REFUSED(fl_mla_decode_run(&call, NULL), "bmm1_scale = 0: must be finite");
  call.batch = -1;
  REFUSED(fl_mla_decode_run(&call, NULL), "batch = -1: must not be negative");
}

/* Scales of rows: by powers of two, o follows that of ckv exactly. */
static void by_scale(fl_mla* mla, const fl_mla_cache* cache, fl_mla_config config) {
  const fl_tensor nope = FL_TENSOR(q_nope, FL_F32, ROWS, HEADS, CKV), pe = FL_TENSOR(q_pe, FL_F32, ROWS, HEADS, KPE);
  const fl_tensor to = FL_TENSOR(o, FL_F32, ROWS, HEADS, CKV), wanted = FL_TENSOR(wanted_o, FL_F32, ROWS, HEADS, CKV);
  fl_mla_cache scaled = *cache;
  fl_mla_arguments arguments = {.size = sizeof arguments, .q_nope = &nope, .q_pe = &pe, .cache = cache, .o = &wanted};
  fl_mla* half = NULL;
  int i;
  OK(fl_mla_plan(mla, &batch, NULL));
  OK(fl_mla_run(mla, &arguments, NULL));
  config.sm_scale = 0.15f;
  OK(fl_mla_create(&config, &limits, &workspace, &half));
  OK(fl_mla_plan(half, &batch, NULL));
  scaled.ckv_scale = scaled.kpe_scale = 2.0f;
  arguments.cache = &scaled, arguments.o = &to;
  OK(fl_mla_run(half, &arguments, NULL));
  for (i = 0; i < ROWS * HEADS * CKV; ++i) CHECK(close_to(o[i], 2 * wanted_o[i], 1e-5));
  scaled.kpe_scale = -1.0f;
  REFUSED(fl_mla_run(half, &arguments, NULL), "kpe_scale = -1: must be finite");
  fl_mla_destroy(half);
}

int main(void) {
  const fl_tensor t_both = FL_TENSOR(both, FL_F32, PAGES, PAGE, WIDTH), t_ckv = FL_TENSOR(ckv, FL_F32, PAGES, PAGE, CKV);
  const fl_tensor t_kpe = FL_TENSOR(kpe, FL_F32, PAGES, PAGE, KPE);
  const fl_mla_cache one = {.size = sizeof one, .ckv = &t_both, .head_dim_ckv = CKV};
  const fl_mla_cache two = {.size = sizeof two, .ckv = &t_ckv, .kpe = &t_kpe};
  fl_mla_config config = {.size = sizeof config, .num_heads = HEADS, .head_dim_ckv = CKV, .head_dim_kpe = KPE,
                          .page_size = PAGE, .causal = 1, .sm_scale = 0.3f, .kv_dtype = FL_F32};
  fl_mla* mla = NULL;
  size_t device = 0, staging = 1;
  const char* text = NULL;
  draw(both, sizeof both / sizeof both[0], 1);
  draw(q, sizeof q / sizeof q[0], 2);
  cut(both, ckv, kpe, PAGES * PAGE);
  cut(q, q_nope, q_pe, ROWS * HEADS);
  by_attention();
  OK(fl_mla_bytes_for_limits(&config, &limits, &device, &staging));
  CHECK(device <= sizeof memory && staging == 0);
  OK(fl_mla_create(&config, &limits, &workspace, &mla));
  REFUSED(fl_mla_plan_json(mla, &text), "fl_mla_plan_json: must come after plan()");
  OK(fl_mla_plan(mla, &batch, NULL));
  same(mla, &two);
  same(mla, &one);
  OK(fl_mla_explain(mla, &text));
  CHECK(strncmp(text, "L3 on the CPU", 13) == 0);
  OK(fl_mla_plan_json(mla, &text));
  CHECK(strstr(text, "\"kv_lens\"") != NULL);
  by_scale(mla, &two, config);
  append(&one, &two);
  fl_mla_destroy(mla);
  config.causal = 1;
  OK(fl_mla_create(&config, &limits, &workspace, &mla));
  by_table(mla, &one, 2);
  by_table(mla, &two, 1);
  fl_mla_destroy(mla);
  fl_mla_destroy(NULL);

  config.sm_scale = 0;
  REFUSED(fl_mla_create(&config, &limits, &workspace, &mla), "sm_scale = 0: must be given");
  CHECK(mla == NULL);
  config.sm_scale = 0.3f;
  config.head_dim_kpe = -2;
  REFUSED(fl_mla_create(&config, &limits, &workspace, &mla), "head_dim_kpe = -2");
  config.head_dim_kpe = KPE;
  config.causal = 2;
  REFUSED(fl_mla_create(&config, &limits, &workspace, &mla), "causal = 2: must be 0 or 1");
  config.size = 8;
  REFUSED(fl_mla_create(&config, &limits, &workspace, &mla), "config.size = 8");
  REFUSED(fl_mla_run(NULL, NULL, NULL), "mla = NULL");
  return ended();
}
