/* Every kind of attention object against the plain formula in double, through the C interface: page lists, a block table, a
   ragged cache, graphs, single calls; masks, sinks and windows among them. */
#include "check.h"

enum { HEADS = 4, KV_HEADS = 2, DIM = 16, PAGE = 4, PAGES = 12, BATCH = 3, MAX_ROWS = 16, MAX_KEYS = PAGES * PAGE };

/* Requests of 7, 0 and 9 tokens: pages 3, 1 and 5, 0, 8. */
static const int32_t indptr[] = {0, 2, 2, 5}, last_page_len[] = {3, 0, 1}, indices[] = {3, 1, 5, 0, 8};
static const int32_t seq_lens[] = {7, 0, 9}, block_table[] = {3, 1, -1, -1, -1, -1, 5, 0, 8};
static const int32_t decode_indptr[] = {0, 1, 2, 3}, prefill_indptr[] = {0, 3, 3, 8}, kv_indptr[] = {0, 7, 7, 16};

static float pool[PAGES * 2 * PAGE * KV_HEADS * DIM], ragged_k[16 * KV_HEADS * DIM], ragged_v[16 * KV_HEADS * DIM];
static float q[MAX_ROWS * HEADS * DIM], o[MAX_ROWS * HEADS * DIM], lse[MAX_ROWS * HEADS];
static float sinks[HEADS] = {0.5f, -1.0f, 2.0f, 0.0f};
static uint8_t mask[3 * 7 + 5 * 9], packed[3 + 6]; /* 21 and 45 bits: each request's begin at a byte */

typedef struct rules {
  int causal, window_left, sinks;
  double cap, scale;   /* 0: none, and 1 / sqrt(DIM) */
  const uint8_t* mask; /* of this request */
} rules;

static const float* slot(int page, int k_or_v, int entry, int head) {
  return pool + (((page * 2 + k_or_v) * PAGE + entry) * KV_HEADS + head) * DIM;
}
static const float* key_of(int request, int token, int k_or_v, int head) {
  return slot(indices[indptr[request] + token / PAGE], k_or_v, token % PAGE, head);
}

/* One row by the formula: o in out, lse_log2 returned. */
static double formula(int request, int query, int qo_len, int head, const float* row, rules r, double* out) {
  const int kv_len = seq_lens[request], diagonal = query + kv_len - qo_len, kv_head = head / (HEADS / KV_HEADS);
  double sum = r.sinks ? exp(sinks[head]) : 0;
  for (int d = 0; d < DIM; ++d) out[d] = 0;
  for (int j = 0; j < kv_len; ++j) {
    if (r.causal && j > diagonal) continue;
    if (r.window_left >= 0 && j < diagonal - r.window_left) continue;
    if (r.mask != NULL && r.mask[query * kv_len + j] == 0) continue;
    const float *k = key_of(request, j, 0, kv_head), *v = key_of(request, j, 1, kv_head);
    double dot = 0;
    for (int d = 0; d < DIM; ++d) dot += (double)row[d] * k[d];
    dot *= r.scale > 0 ? r.scale : 1 / sqrt((double)DIM);
    const double weight = exp(r.cap > 0 ? r.cap * tanh(dot / r.cap) : dot);
    sum += weight;
    for (int d = 0; d < DIM; ++d) out[d] += weight * v[d];
  }
  for (int d = 0; d < DIM; ++d) out[d] = sum > 0 ? out[d] / sum : 0;
  return log2(sum);
}

/* Compares o and lse of all rows with the formula. */
static void check_rows(const int32_t* qo_indptr, rules r) {
  const uint8_t* bytes = r.mask;
  for (int b = 0; b < BATCH; ++b) {
    const int qo_len = qo_indptr[b + 1] - qo_indptr[b];
    for (int i = 0; i < qo_len * HEADS; ++i) {
      const int row = (qo_indptr[b] * HEADS) + i;
      double want[DIM];
      rules of_request = r;
      of_request.mask = bytes;
      const double want_lse = formula(b, i / HEADS, qo_len, i % HEADS, q + row * DIM, of_request, want);
      CHECK(want_lse == lse[row] || close_to(lse[row], want_lse, 1e-5));
      for (int d = 0; d < DIM; ++d) CHECK(close_to(o[row * DIM + d], want[d], 1e-5));
    }
    if (bytes != NULL) bytes += qo_len * seq_lens[b];
  }
}

/* `mask` as bits. */
static void pack_mask(void) {
  int begin = 0, at = 0;
  memset(packed, 0, sizeof packed);
  for (int b = 0; b < BATCH; ++b) {
    const int pairs = (prefill_indptr[b + 1] - prefill_indptr[b]) * seq_lens[b];
    for (int i = 0; i < pairs; ++i) packed[begin + i / 8] |= (uint8_t)(mask[at + i] << i % 8);
    at += pairs;
    begin += (pairs + 7) / 8;
  }
  CHECK(begin == (int)sizeof packed);
}

static fl_attention_config config(int32_t page_size) {
  const fl_attention_config c = {.size = sizeof c, .num_qo_heads = HEADS, .num_kv_heads = KV_HEADS, .head_dim_qk = DIM,
                                 .page_size = page_size, .kv_dtype = FL_F32, .threads = 1};
  return c;
}

/* Bytes, create, plan, run; the object is returned for more. */
static fl_attention* attend(int32_t kind, const fl_attention_config* c, const fl_attention_limits* limits,
                            const fl_batch* batch, fl_attention_arguments* arguments, int32_t rows) {
  const fl_tensor tq = FL_TENSOR(q, FL_F32, rows, HEADS, DIM), to = FL_TENSOR(o, FL_F32, rows, HEADS, DIM);
  fl_attention* attention = NULL;
  size_t bytes = 0, staging = 1, least = 0;
  for (int i = 0; i < MAX_ROWS * HEADS * DIM; ++i) o[i] = NAN;
  for (int i = 0; i < MAX_ROWS * HEADS; ++i) lse[i] = NAN;
  arguments->q = &tq;
  arguments->o = &to;
  arguments->lse_log2 = lse;
  if (limits != NULL) OK(fl_attention_bytes_for_limits(kind, c, limits, &bytes, &staging));
  else OK(fl_attention_bytes_for_batch(kind, c, batch, &bytes, &staging));
  CHECK(staging == 0);
  if (limits != NULL) OK(fl_attention_least_device_bytes_for_limits(kind, c, limits, &least));
  else OK(fl_attention_least_device_bytes_for_batch(kind, c, batch, &least));
  CHECK(least == bytes); /* the CPU reads all pages where they lie */
  const fl_workspace workspace = {.size = sizeof workspace, .device = aligned_alloc(16, (bytes + 31) / 16 * 16),
                                  .device_bytes = bytes};
  OK(fl_attention_create(kind, c, limits, &workspace, &attention));
  OK(fl_attention_plan(attention, batch, NULL));
  OK(fl_attention_run(attention, arguments, NULL));
  return attention; /* its workspace lives to the end of the program */
}

static void paged(void) {
  const fl_tensor kv5 = FL_TENSOR(pool, FL_F32, PAGES, 2, PAGE, KV_HEADS, DIM);
  const fl_kv_cache kv = {.size = sizeof kv, .k = &kv5};
  const fl_batch decode = {.size = sizeof decode, .batch = BATCH, .paged_kv_indptr = indptr,
                           .paged_kv_last_page_len = last_page_len};
  const fl_batch table = {.size = sizeof table, .batch = BATCH, .max_pages = 3, .seq_lens = seq_lens};
  fl_batch prefill = decode;
  prefill.qo_indptr = prefill_indptr;
  fl_attention_arguments lists = {.size = sizeof lists, .kv = &kv, .page_ids = indices, .num_page_ids = 5};
  fl_attention_arguments of_table = {.size = sizeof of_table, .kv = &kv, .page_ids = block_table, .num_page_ids = 9};
  fl_attention_config c = config(PAGE);

  fl_attention* attention = attend(FL_DECODE, &c, NULL, &decode, &lists, BATCH);
  check_rows(decode_indptr, (rules){.window_left = -1});
  const char* text = NULL;
  OK(fl_attention_explain(attention, &text));
  CHECK(text != NULL && strlen(text) > 0);
  OK(fl_attention_plan_json(attention, &text));
  CHECK(text != NULL && strstr(text, "\"kv_lens\":[7,0,9]") != NULL && strstr(text, "\"parts\":[{") != NULL);
  printf("plan %s\n", text); /* tests/installed_c_test.py reads it as JSON */
  fl_attention_destroy(attention);

  fl_attention_destroy(attend(FL_DECODE, &c, NULL, &table, &of_table, BATCH));
  check_rows(decode_indptr, (rules){.window_left = -1});

  fl_batch there[] = {table, decode}; /* lengths on the device, which is the CPU here */
  for (int i = 0; i < 2; ++i) {
    there[i].lengths_on_device = 1;
    there[i].max_seq_len = 9;
    fl_attention_destroy(attend(FL_DECODE, &c, NULL, &there[i], i == 0 ? &of_table : &lists, BATCH));
    check_rows(decode_indptr, (rules){.window_left = -1});
  }

  c.sinks = 1;
  lists.sinks = sinks;
  fl_attention_destroy(attend(FL_DECODE, &c, NULL, &decode, &lists, BATCH));
  check_rows(decode_indptr, (rules){.window_left = -1, .sinks = 1});
  c.sinks = 0;
  lists.sinks = NULL;

  fl_logits logits = {.size = sizeof logits, .mask = FL_MASK_CAUSAL};
  c.logits = &logits;
  fl_attention_destroy(attend(FL_PREFILL, &c, NULL, &prefill, &lists, 8));
  check_rows(prefill_indptr, (rules){.window_left = -1, .causal = 1});
  logits.use_window = 1;
  logits.window_left = 2;
  fl_attention_destroy(attend(FL_PREFILL, &c, NULL, &prefill, &lists, 8));
  check_rows(prefill_indptr, (rules){.window_left = 2, .causal = 1});

  logits.use_window = 0;
  logits.window_left = 0;
  c.policy = FL_SPLIT_NONE;
  fl_batch prompts[] = {prefill, prefill}; /* and those of a prefill */
  prompts[0].seq_lens = table.seq_lens, prompts[0].max_pages = table.max_pages;
  prompts[0].paged_kv_indptr = prompts[0].paged_kv_last_page_len = NULL;
  for (int i = 0; i < 2; ++i) {
    prompts[i].lengths_on_device = 1;
    prompts[i].max_seq_len = 9;
    prompts[i].max_nnz_qo = prompts[i].max_qo_len = 8;
    fl_attention_destroy(attend(FL_PREFILL, &c, NULL, &prompts[i], i == 0 ? &of_table : &lists, 8));
    check_rows(prefill_indptr, (rules){.window_left = -1, .causal = 1});
  }
  c.policy = FL_SPLIT_BALANCED;

  logits = (fl_logits){.size = sizeof logits, .mask = FL_MASK_CUSTOM};
  uint32_t seed = 5;
  for (size_t i = 0; i < sizeof mask; ++i) mask[i] = drawn(&seed) > 0;
  lists.custom_mask = mask;
  lists.custom_mask_bytes = sizeof mask;
  fl_attention_destroy(attend(FL_PREFILL, &c, NULL, &prefill, &lists, 8));
  check_rows(prefill_indptr, (rules){.window_left = -1, .mask = mask});
  lists.custom_mask = NULL;
  lists.custom_mask_bytes = 0;
  pack_mask();
  lists.packed_custom_mask = packed;
  lists.packed_custom_mask_bytes = sizeof packed;
  fl_attention_destroy(attend(FL_PREFILL, &c, NULL, &prefill, &lists, 8));
  check_rows(prefill_indptr, (rules){.window_left = -1, .mask = mask});
}

/* K and V as two tensors over the same memory, with strides: NHD, and HND whose heads lie as in NHD. */
static void views(void) {
  const fl_batch batch = {.size = sizeof batch, .batch = BATCH, .paged_kv_indptr = indptr,
                          .paged_kv_last_page_len = last_page_len};
  const fl_attention_config c = config(PAGE);
  for (int32_t layout = FL_NHD; layout <= FL_HND; ++layout) {
    const int64_t entry = KV_HEADS * DIM, page = 2 * PAGE * entry;
    fl_tensor k = {.size = sizeof k, .data = pool, .dtype = FL_F32, .rank = 4, .shape = {PAGES, PAGE, KV_HEADS, DIM},
                   .strides = {page, entry, DIM, 1}};
    if (layout == FL_HND) {
      k.shape[1] = KV_HEADS, k.shape[2] = PAGE;
      k.strides[1] = DIM, k.strides[2] = entry;
    }
    fl_tensor v = k;
    v.data = pool + PAGE * entry;
    const fl_kv_cache kv = {.size = sizeof kv, .k = &k, .v = &v, .layout = layout};
    fl_attention_arguments arguments = {.size = sizeof arguments, .kv = &kv, .page_ids = indices, .num_page_ids = 5};
    fl_attention_destroy(attend(FL_DECODE, &c, NULL, &batch, &arguments, BATCH));
    check_rows(decode_indptr, (rules){.window_left = -1});
  }
}

/* Scale and cap by the formula; each position encoding, and RoPE's theta, changes what comes out. */
static void logits_fields(void) {
  const fl_tensor kv5 = FL_TENSOR(pool, FL_F32, PAGES, 2, PAGE, KV_HEADS, DIM);
  const fl_kv_cache kv = {.size = sizeof kv, .k = &kv5};
  const fl_batch batch = {.size = sizeof batch, .batch = BATCH, .paged_kv_indptr = indptr,
                          .paged_kv_last_page_len = last_page_len};
  fl_attention_arguments arguments = {.size = sizeof arguments, .kv = &kv, .page_ids = indices, .num_page_ids = 5};
  fl_attention_config c = config(PAGE);
  fl_logits logits = {.size = sizeof logits, .sm_scale = 0.5f, .logits_soft_cap = 0.75f};
  c.logits = &logits;
  fl_attention_destroy(attend(FL_DECODE, &c, NULL, &batch, &arguments, BATCH));
  check_rows(decode_indptr, (rules){.window_left = -1, .scale = 0.5, .cap = 0.75});
  static float of[4][HEADS * DIM];
  for (int32_t i = 0; i < 4; ++i) {
    logits = (fl_logits){.size = sizeof logits, .pos_encoding_mode = i == 3 ? FL_POS_ROPE_LLAMA : i};
    if (i == 3) logits.rope_theta = 50;
    fl_attention_destroy(attend(FL_DECODE, &c, NULL, &batch, &arguments, BATCH));
    memcpy(of[i], o, sizeof of[i]);
    for (int32_t j = 0; j < i; ++j) CHECK(memcmp(of[i], of[j], sizeof of[i]) != 0);
  }
}

static void graphs(void) {
  const fl_tensor kv5 = FL_TENSOR(pool, FL_F32, PAGES, 2, PAGE, KV_HEADS, DIM);
  const fl_kv_cache kv = {.size = sizeof kv, .k = &kv5};
  fl_attention_config c = config(PAGE);
  fl_attention_limits limits = {.size = sizeof limits, .max_batch = 4, .max_pages = 20};
  fl_batch batch = {.size = sizeof batch, .batch = BATCH, .paged_kv_indptr = indptr, .paged_kv_last_page_len = last_page_len,
                    .page_ids = indices, .num_page_ids = 5};
  fl_attention_arguments arguments = {.size = sizeof arguments, .kv = &kv};
  fl_attention* attention = attend(FL_GRAPH_DECODE, &c, &limits, &batch, &arguments, 4);
  check_rows(decode_indptr, (rules){.window_left = -1});
  CHECK(isnan(o[BATCH * HEADS * DIM])); /* rows beyond the batch are left alone */
  fl_attention_destroy(attention);

  limits.max_nnz_qo = MAX_ROWS;
  batch.qo_indptr = prefill_indptr;
  fl_attention_destroy(attend(FL_GRAPH_PREFILL, &c, &limits, &batch, &arguments, MAX_ROWS));
  check_rows(prefill_indptr, (rules){.window_left = -1});

  attention = attend(FL_BATCH_ATTENTION, &c, &limits, &batch, &arguments, MAX_ROWS);
  check_rows(prefill_indptr, (rules){.window_left = -1});
  batch.qo_indptr = decode_indptr; /* another batch, in the same limits */
  OK(fl_attention_plan(attention, &batch, NULL));
  fl_attention_destroy(attention);

  limits.max_qo_len = 1;
  attention = attend(FL_GRAPH_PREFILL, &c, &limits, &batch, &arguments, MAX_ROWS);
  check_rows(decode_indptr, (rules){.window_left = -1});
  batch.qo_indptr = prefill_indptr;
  REFUSED(fl_attention_plan(attention, &batch, NULL), "qo_len = 3 (request 0): exceeds what was captured: max_qo_len 1");
  fl_attention_destroy(attention);
}

static void ragged_and_single(void) {
  const fl_tensor k = FL_TENSOR(ragged_k, FL_F32, 16, KV_HEADS, DIM), v = FL_TENSOR(ragged_v, FL_F32, 16, KV_HEADS, DIM);
  const fl_kv_cache kv = {.size = sizeof kv, .k = &k, .v = &v};
  for (int t = 0; t < 16; ++t) {
    for (int h = 0; h < KV_HEADS; ++h) {
      const int request = t < 7 ? 0 : 2, token = t < 7 ? t : t - 7;
      memcpy(ragged_k + (t * KV_HEADS + h) * DIM, key_of(request, token, 0, h), sizeof(float) * DIM);
      memcpy(ragged_v + (t * KV_HEADS + h) * DIM, key_of(request, token, 1, h), sizeof(float) * DIM);
    }
  }
  const fl_attention_config c = config(1);
  const fl_batch batch = {.size = sizeof batch, .batch = BATCH, .qo_indptr = prefill_indptr, .kv_indptr = kv_indptr};
  fl_attention_arguments arguments = {.size = sizeof arguments, .kv = &kv};
  fl_attention_destroy(attend(FL_RAGGED_PREFILL, &c, NULL, &batch, &arguments, 8));
  check_rows(prefill_indptr, (rules){.window_left = -1});

  /* Request 0 alone: its three queries, then its first one as a decode. */
  const fl_tensor k7 = FL_TENSOR(ragged_k, FL_F32, 7, KV_HEADS, DIM), v7 = FL_TENSOR(ragged_v, FL_F32, 7, KV_HEADS, DIM);
  const fl_kv_cache kv7 = {.size = sizeof kv7, .k = &k7, .v = &v7};
  const fl_tensor q3 = FL_TENSOR(q, FL_F32, 3, HEADS, DIM), o3 = FL_TENSOR(o, FL_F32, 3, HEADS, DIM);
  const fl_tensor q1 = FL_TENSOR(q, FL_F32, HEADS, DIM), o1 = FL_TENSOR(o, FL_F32, HEADS, DIM);
  const fl_logits logits = {.size = sizeof logits, .mask = FL_MASK_CAUSAL};
  const fl_on cpu = {.size = sizeof cpu, .device = FL_CPU};
  fl_attention_arguments single = {.size = sizeof single, .q = &q3, .kv = &kv7, .o = &o3, .lse_log2 = lse, .sinks = sinks};
  for (int i = 0; i < 3 * HEADS * DIM; ++i) o[i] = NAN;
  OK(fl_single_prefill_with_kv_cache(&single, &logits, &cpu));
  const int32_t alone[] = {0, 3, 3, 3}, one[] = {0, 1, 1, 1};
  check_rows(alone, (rules){.window_left = -1, .causal = 1, .sinks = 1});
  static float natural[3 * HEADS];
  single.lse_log2 = NULL;
  single.lse_natural = natural;
  OK(fl_single_prefill_with_kv_cache(&single, &logits, &cpu));
  for (int i = 0; i < 3 * HEADS; ++i) CHECK(close_to(natural[i], lse[i] * 0.6931471805599453, 1e-5));
  single.lse_log2 = lse;
  single.lse_natural = NULL;
  single.q = &q1;
  single.o = &o1;
  single.sinks = NULL;
  OK(fl_single_decode_with_kv_cache(&single, NULL, NULL));
  check_rows(one, (rules){.window_left = -1});

  /* The same memory, seen head by head. */
  fl_tensor k_of_heads = k7, v_of_heads = v7;
  k_of_heads.shape[0] = v_of_heads.shape[0] = KV_HEADS, k_of_heads.shape[1] = v_of_heads.shape[1] = 7;
  k_of_heads.strides[0] = v_of_heads.strides[0] = DIM, k_of_heads.strides[1] = v_of_heads.strides[1] = KV_HEADS * DIM;
  const fl_kv_cache hnd = {.size = sizeof hnd, .k = &k_of_heads, .v = &v_of_heads, .layout = FL_HND};
  single.kv = &hnd;
  for (int i = 0; i < HEADS * DIM; ++i) o[i] = NAN;
  OK(fl_single_decode_with_kv_cache(&single, NULL, NULL));
  check_rows(one, (rules){.window_left = -1});
}

int main(void) {
  draw(pool, sizeof pool / sizeof *pool, 1);
  draw(q, sizeof q / sizeof *q, 2);
  paged();
  views();
  logits_fields();
  graphs();
  ragged_and_single();
  return ended();
}
