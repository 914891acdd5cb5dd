/* An fp8 cache through the C interface: rows are quantised as they are appended, attention reads what they stand for, and a
   norm writes fp8. Against the plain formula over numbers that are decoded here. */
#include "check.h"

enum { HEADS = 4, KV_HEADS = 2, DIM = 16, PAGE = 4, PAGES = 3, TOKENS = 9 };

/* 4 bits of exponent with a bias of 7, 3 of fraction. */
static double e4m3(uint8_t bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  const double size = exponent > 0 ? ldexp(8 + fraction, exponent - 10) : ldexp(fraction, -9);
  if ((bits & 0x7f) == 0x7f) return NAN;
  return bits & 0x80 ? -size : size;
}

static uint8_t pool[PAGES * 2 * PAGE * KV_HEADS * DIM];
static float k[TOKENS * KV_HEADS * DIM], v[TOKENS * KV_HEADS * DIM], q[HEADS * DIM], o[HEADS * DIM], lse[HEADS];
static const float k_per_head[] = {0.004f, 0.003f};

static uint8_t* stored(int token, int k_or_v, int head) {
  return pool + (((token / PAGE * 2 + k_or_v) * PAGE + token % PAGE) * KV_HEADS + head) * DIM;
}

/* o of head h over all tokens in out; k and v scales of its KV head. */
static double formula(int h, double k_scale, double v_scale, double* out) {
  double sum = 0;
  for (int d = 0; d < DIM; ++d) out[d] = 0;
  for (int j = 0; j < TOKENS; ++j) {
    double dot = 0;
    for (int d = 0; d < DIM; ++d) dot += (double)q[h * DIM + d] * e4m3(stored(j, 0, h / 2)[d]) * k_scale;
    const double weight = exp(dot / sqrt((double)DIM));
    sum += weight;
    for (int d = 0; d < DIM; ++d) out[d] += weight * e4m3(stored(j, 1, h / 2)[d]) * v_scale;
  }
  for (int d = 0; d < DIM; ++d) out[d] /= sum;
  return log2(sum);
}

static void check_rows(double v_scale) {
  for (int h = 0; h < HEADS; ++h) {
    double want[DIM];
    CHECK(close_to(lse[h], formula(h, k_per_head[h / 2], v_scale, want), 1e-5));
    for (int d = 0; d < DIM; ++d) CHECK(close_to(o[h * DIM + d], want[d], 1e-5));
  }
}

static void attention(void) {
  const fl_tensor cache = FL_TENSOR(pool, FL_F8_E4M3, PAGES, 2, PAGE, KV_HEADS, DIM);
  const fl_kv_cache kv = {.size = sizeof kv, .k = &cache, .v_scale = 0.005f, .k_scale_per_head = k_per_head};
  const fl_tensor tk = FL_TENSOR(k, FL_F32, TOKENS, KV_HEADS, DIM), tv = FL_TENSOR(v, FL_F32, TOKENS, KV_HEADS, DIM);
  int64_t slots[TOKENS];
  for (int i = 0; i < TOKENS; ++i) slots[i] = i;
  memset(pool, 0x7f, sizeof pool);
  draw(k, sizeof k / sizeof *k, 1), draw(v, sizeof v / sizeof *v, 2), draw(q, sizeof q / sizeof *q, 3);
  OK(fl_append_paged_kv_cache_by_slots(&tk, &tv, slots, &kv, NULL));
  for (int i = 0; i < TOKENS * KV_HEADS; ++i) {
    const double scale = k_per_head[i % KV_HEADS];
    for (int d = 0; d < DIM; ++d) { /* three bits of fraction, and the step of a subnormal */
      const double x = k[i * DIM + d], y = e4m3(stored(i / KV_HEADS, 0, i % KV_HEADS)[d]) * scale;
      CHECK(close_to(y, x, fabs(x) / 16 + ldexp(scale, -10)));
    }
  }
  fl_attention_config c = {.size = sizeof c, .num_qo_heads = HEADS, .num_kv_heads = KV_HEADS, .head_dim_qk = DIM,
                           .page_size = PAGE, .kv_dtype = FL_F8_E4M3, .threads = 1};
  const int32_t indptr[] = {0, 3}, last_page_len[] = {1}, indices[] = {0, 1, 2};
  const fl_batch batch = {.size = sizeof batch, .batch = 1, .paged_kv_indptr = indptr,
                          .paged_kv_last_page_len = last_page_len};
  size_t bytes = 0;
  REFUSED(fl_attention_bytes_for_batch(FL_DECODE, &c, &batch, &bytes, NULL), "q_dtype = f8_e4m3: must be f32, f16 or bf16");
  c.q_dtype = FL_F32;
  OK(fl_attention_bytes_for_batch(FL_DECODE, &c, &batch, &bytes, NULL));
  const fl_workspace workspace = {.size = sizeof workspace, .device = aligned_alloc(16, (bytes + 31) / 16 * 16),
                                  .device_bytes = bytes};
  fl_attention* attention = NULL;
  OK(fl_attention_create(FL_DECODE, &c, NULL, &workspace, &attention));
  OK(fl_attention_plan(attention, &batch, NULL));
  const fl_tensor tq = FL_TENSOR(q, FL_F32, 1, HEADS, DIM), to = FL_TENSOR(o, FL_F32, 1, HEADS, DIM);
  fl_attention_arguments arguments = {.size = sizeof arguments, .q = &tq, .kv = &kv, .o = &to, .lse_log2 = lse,
                                      .page_ids = indices, .num_page_ids = 3};
  OK(fl_attention_run(attention, &arguments, NULL));
  check_rows((double)0.005f);

  /* An older caller's cache, without scales: what is stored stands for itself. */
  fl_kv_cache older = kv;
  older.size = offsetof(fl_kv_cache, k_scale);
  arguments.kv = &older;
  float as_stored[HEADS * DIM];
  OK(fl_attention_run(attention, &arguments, NULL));
  memcpy(as_stored, o, sizeof o);
  const float ones[] = {1, 1};
  fl_kv_cache plain = {.size = sizeof plain, .k = &cache, .k_scale_per_head = ones};
  arguments.kv = &plain;
  OK(fl_attention_run(attention, &arguments, NULL));
  CHECK(memcmp(as_stored, o, sizeof o) == 0);
  plain.k_scale = -1;
  REFUSED(fl_attention_run(attention, &arguments, NULL), "k_scale = -1: must be finite and greater than 0");
  plain.k_scale = 2;
  REFUSED(fl_attention_run(attention, &arguments, NULL), "k_scale = 2: must be 1 where scales per head are given");
  fl_attention_destroy(attention);

  /* The same as one call, over tokens that lie one after the other in page 0. */
  const fl_tensor k4 = FL_TENSOR(pool, FL_F8_E4M3, PAGE, KV_HEADS, DIM);
  const fl_tensor v4 = FL_TENSOR(pool + PAGE * KV_HEADS * DIM, FL_F8_E4M3, PAGE, KV_HEADS, DIM);
  const fl_tensor q1 = FL_TENSOR(q, FL_F32, HEADS, DIM), o1 = FL_TENSOR(o, FL_F32, HEADS, DIM);
  fl_kv_cache tokens = {.size = sizeof tokens, .k = &k4, .v = &v4, .v_scale = 1, .k_scale_per_head = k_per_head};
  fl_attention_arguments single = {.size = sizeof single, .q = &q1, .kv = &tokens, .o = &o1, .lse_log2 = lse};
  float by_one[HEADS * DIM];
  OK(fl_single_decode_with_kv_cache(&single, NULL, NULL));
  memcpy(by_one, o, sizeof o);
  tokens.v_scale = 2;
  OK(fl_single_decode_with_kv_cache(&single, NULL, NULL));
  for (int i = 0; i < HEADS * DIM; ++i) CHECK(o[i] == 2 * by_one[i]);
}

static void norms(void) {
  float x[2 * 8], w[8], y[2 * 8], r[2 * 8], x2[2 * 8], r2[2 * 8];
  uint8_t out[2 * 8], again[2 * 8];
  draw(x, 16, 7), draw(w, 8, 8), draw(r, 16, 9);
  memcpy(x2, x, sizeof x), memcpy(r2, r, sizeof r);
  const fl_tensor tx = FL_TENSOR(x, FL_F32, 2, 8), tw = FL_TENSOR(w, FL_F32, 8), ty = FL_TENSOR(y, FL_F32, 2, 8);
  const fl_tensor tr = FL_TENSOR(r, FL_F32, 2, 8), tx2 = FL_TENSOR(x2, FL_F32, 2, 8), tr2 = FL_TENSOR(r2, FL_F32, 2, 8);
  const fl_tensor to = FL_TENSOR(out, FL_F8_E4M3, 2, 8), ta = FL_TENSOR(again, FL_F8_E4M3, 2, 8);
  const float scale = 0.01f;
  OK(fl_rmsnorm(&tx, &tw, &ty, 1e-6f, NULL));
  OK(fl_rmsnorm_quant(&tx, &tw, &to, scale, NULL, 1e-6f, NULL));
  OK(fl_rmsnorm_quant(&tx, &tw, &ta, 0, &scale, 1e-6f, NULL));
  CHECK(memcmp(out, again, sizeof out) == 0);
  for (int i = 0; i < 16; ++i) {
    const double want = (double)y[i] / (double)scale;
    CHECK(close_to(e4m3(out[i]), want, fabs(want) / 16 + ldexp(1, -10)));
  }
  OK(fl_fused_add_rmsnorm(&tx2, &tr2, &tw, 1e-6f, NULL));
  OK(fl_fused_add_rmsnorm_quant(&tx, &tr, &tw, &to, scale, NULL, 1e-6f, NULL));
  CHECK(memcmp(r, r2, sizeof r) == 0);
  for (int i = 0; i < 16; ++i) {
    const double want = (double)x2[i] / (double)scale;
    CHECK(close_to(e4m3(out[i]), want, fabs(want) / 16 + ldexp(1, -10)));
  }
  OK(fl_layernorm(&tx, &tw, &tw, &ty, 1e-6f, NULL));
  OK(fl_layernorm_quant(&tx, &tw, &tw, &to, scale, NULL, 1e-6f, NULL));
  OK(fl_layernorm_quant(&tx, &tw, &tw, &ta, 0, &scale, 1e-6f, NULL));
  CHECK(memcmp(out, again, sizeof out) == 0);
  for (int i = 0; i < 16; ++i) {
    const double want = (double)y[i] / (double)scale;
    CHECK(close_to(e4m3(out[i]), want, fabs(want) / 16 + ldexp(1, -10)));
  }
  REFUSED(fl_layernorm_quant(&tx, &tw, &tw, &ty, 1, NULL, 1e-6f, NULL), "out = f32: must be f8_e4m3 or f8_e5m2");
  REFUSED(fl_rmsnorm_quant(&tx, &tw, &ty, 1, NULL, 1e-6f, NULL), "out = f32: must be f8_e4m3 or f8_e5m2");
  REFUSED(fl_rmsnorm_quant(&tx, &tw, &to, -1, NULL, 1e-6f, NULL), "scale = -1: must be finite and greater than 0");
  REFUSED(fl_rmsnorm(&tx, &tw, &to, 1e-6f, NULL), "out = f8_e4m3: must be f32, f16 or bf16");
}

int main(void) {
  attention();
  norms();
  return ended();
}
