/* Merging, appending, RMSNorm, RoPE and the page pool through the C interface, against what they are in plain C. */
#include "check.h"

static void merging(void) {
  float v_a[2 * 3 * 4], v_b[2 * 3 * 4], s_a[2 * 3], s_b[2 * 3], v[2 * 3 * 4], s[2 * 3];
  draw(v_a, 24, 1), draw(v_b, 24, 2), draw(s_a, 6, 3), draw(s_b, 6, 4);
  const fl_tensor va = FL_TENSOR(v_a, FL_F32, 2, 3, 4), sa = FL_TENSOR(s_a, FL_F32, 2, 3);
  const fl_tensor vb = FL_TENSOR(v_b, FL_F32, 2, 3, 4), sb = FL_TENSOR(s_b, FL_F32, 2, 3);
  const fl_tensor vo = FL_TENSOR(v, FL_F32, 2, 3, 4), so = FL_TENSOR(s, FL_F32, 2, 3);
  OK(fl_merge_state(&va, &sa, &vb, &sb, &vo, &so, NULL));
  for (int row = 0; row < 6; ++row) {
    const double a = exp2((double)s_a[row]), b = exp2((double)s_b[row]);
    CHECK(close_to(s[row], log2(a + b), 1e-6));
    for (int d = 0; d < 4; ++d) {
      CHECK(close_to(v[row * 4 + d], (a * (double)v_a[row * 4 + d] + b * (double)v_b[row * 4 + d]) / (a + b), 1e-6));
    }
  }
  /* In place, on the second row only: the first keeps its bits. */
  const uint8_t second[] = {0, 1};
  float kept[12], in_place[24], s_in_place[6];
  memcpy(kept, v_a, sizeof kept), memcpy(in_place, v_a, sizeof in_place), memcpy(s_in_place, s_a, sizeof s_in_place);
  const fl_tensor vi = FL_TENSOR(in_place, FL_F32, 2, 3, 4), si = FL_TENSOR(s_in_place, FL_F32, 2, 3);
  OK(fl_merge_state_in_place(&vi, &si, &vb, &sb, second, NULL));
  CHECK(memcmp(kept, in_place, sizeof kept) == 0 && memcmp(in_place + 12, v + 12, sizeof kept) == 0);

  /* Two states a row, side by side; and by an indptr: the same two states. */
  float stacked[48], stacked_s[12], merged[24], merged_s[6];
  for (int n = 0; n < 2; ++n) {
    memcpy(stacked + n * 24, v_a + n * 12, 12 * sizeof(float));
    memcpy(stacked + n * 24 + 12, v_b + n * 12, 12 * sizeof(float));
    memcpy(stacked_s + n * 6, s_a + n * 3, 3 * sizeof(float));
    memcpy(stacked_s + n * 6 + 3, s_b + n * 3, 3 * sizeof(float));
  }
  const fl_tensor v4 = FL_TENSOR(stacked, FL_F32, 2, 2, 3, 4), s4 = FL_TENSOR(stacked_s, FL_F32, 2, 2, 3);
  const fl_tensor v3 = FL_TENSOR(stacked, FL_F32, 4, 3, 4), s3 = FL_TENSOR(stacked_s, FL_F32, 4, 3);
  const fl_tensor vm = FL_TENSOR(merged, FL_F32, 2, 3, 4), sm = FL_TENSOR(merged_s, FL_F32, 2, 3);
  const int32_t indptr[] = {0, 2, 4};
  OK(fl_merge_states(&v4, &s4, &vm, &sm, NULL));
  for (int i = 0; i < 24; ++i) CHECK(close_to(merged[i], (double)v[i], 1e-6));
  memset(merged, 0, sizeof merged);
  OK(fl_variable_length_merge_states(&v3, &s3, indptr, &vm, &sm, NULL));
  for (int i = 0; i < 24; ++i) CHECK(close_to(merged[i], (double)v[i], 1e-6));
}

static void norms(void) {
  float x[2 * 8], w[8], out[2 * 8], residual[2 * 8], sum[2 * 8];
  draw(x, 16, 7), draw(w, 8, 8), draw(residual, 16, 9);
  const fl_tensor tx = FL_TENSOR(x, FL_F32, 2, 8), tw = FL_TENSOR(w, FL_F32, 8), to = FL_TENSOR(out, FL_F32, 2, 8);
  const fl_tensor tr = FL_TENSOR(residual, FL_F32, 2, 8);
  for (int i = 0; i < 16; ++i) sum[i] = x[i] + residual[i];
  OK(fl_rmsnorm(&tx, &tw, &to, 1e-6f, NULL));
  for (int n = 0; n < 2; ++n) {
    double squares = 0;
    for (int d = 0; d < 8; ++d) squares += (double)x[n * 8 + d] * (double)x[n * 8 + d];
    for (int d = 0; d < 8; ++d) {
      CHECK(close_to(out[n * 8 + d], (double)x[n * 8 + d] * (double)w[d] / sqrt(squares / 8 + 1e-6), 1e-5));
    }
  }
  OK(fl_fused_add_rmsnorm(&tx, &tr, &tw, 1e-6f, NULL));
  CHECK(memcmp(residual, sum, sizeof sum) == 0);
  const fl_tensor ts = FL_TENSOR(sum, FL_F32, 2, 8);
  OK(fl_rmsnorm(&ts, &tw, &to, 1e-6f, NULL));
  for (int i = 0; i < 16; ++i) CHECK(close_to(x[i], (double)out[i], 1e-6));
}

/* 1 + weight; and (x - mean) / sqrt(variance + eps) * gamma + beta. */
static void gemma_and_layernorm(void) {
  float x[2 * 8], w[8], more[8], out[2 * 8], plain[2 * 8], r[2 * 8], x2[2 * 8], r2[2 * 8], beta[8];
  draw(x, 16, 17), draw(w, 8, 18), draw(r, 16, 19), draw(beta, 8, 20);
  for (int i = 0; i < 8; ++i) more[i] = 1 + w[i];
  memcpy(x2, x, sizeof x), memcpy(r2, r, sizeof r);
  const fl_tensor tx = FL_TENSOR(x, FL_F32, 2, 8), tw = FL_TENSOR(w, FL_F32, 8), tm = FL_TENSOR(more, FL_F32, 8);
  const fl_tensor to = FL_TENSOR(out, FL_F32, 2, 8), tp = FL_TENSOR(plain, FL_F32, 2, 8), tb = FL_TENSOR(beta, FL_F32, 8);
  const fl_tensor tr = FL_TENSOR(r, FL_F32, 2, 8), tx2 = FL_TENSOR(x2, FL_F32, 2, 8), tr2 = FL_TENSOR(r2, FL_F32, 2, 8);
  OK(fl_gemma_rmsnorm(&tx, &tw, &to, 1e-6f, NULL));
  OK(fl_rmsnorm(&tx, &tm, &tp, 1e-6f, NULL));
  for (int i = 0; i < 16; ++i) CHECK(close_to(out[i], (double)plain[i], 1e-6));
  OK(fl_layernorm(&tx, &tw, &tb, &to, 1e-5f, NULL));
  for (int n = 0; n < 2; ++n) {
    double mean = 0, variance = 0;
    for (int d = 0; d < 8; ++d) mean += (double)x[n * 8 + d] / 8;
    for (int d = 0; d < 8; ++d) variance += ((double)x[n * 8 + d] - mean) * ((double)x[n * 8 + d] - mean) / 8;
    for (int d = 0; d < 8; ++d) {
      const double y = ((double)x[n * 8 + d] - mean) / sqrt(variance + 1e-5) * (double)w[d] + (double)beta[d];
      CHECK(close_to(out[n * 8 + d], y, 1e-6));
    }
  }
  REFUSED(fl_layernorm(&tx, &tw, &tx, &to, 1e-5f, NULL), "beta = [2, 8]");
  OK(fl_gemma_fused_add_rmsnorm(&tx, &tr, &tw, 1e-6f, NULL));
  OK(fl_fused_add_rmsnorm(&tx2, &tr2, &tm, 1e-6f, NULL));
  CHECK(memcmp(r, r2, sizeof r) == 0);
  for (int i = 0; i < 16; ++i) CHECK(close_to(x[i], (double)x2[i], 1e-6));
}

/* Two tokens at positions 0 and 5: the angle of pair d is position * theta^(-2 d / 8). */
static void rope(void) {
  float q[2 * 2 * 8], k[2 * 1 * 8], plain[32], table[6 * 8], by_table[32], k2[16];
  const int32_t positions[] = {0, 5};
  draw(q, 32, 11), draw(k, 16, 12);
  memcpy(plain, q, sizeof q), memcpy(by_table, q, sizeof q), memcpy(k2, k, sizeof k);
  const fl_tensor tq = FL_TENSOR(q, FL_F32, 2, 2, 8), tk = FL_TENSOR(k, FL_F32, 2, 1, 8);
  const fl_rope options = {.size = sizeof options, .rope_theta = 100};
  OK(fl_apply_rope_pos_ids_inplace(&tq, &tk, positions, &options, NULL));
  for (int row = 0; row < 4; ++row) {
    for (int d = 0; d < 4; ++d) {
      const double angle = positions[row / 2] * pow(100, -2.0 * d / 8), a = (double)plain[row * 8 + d];
      const double b = (double)plain[row * 8 + d + 4];
      CHECK(close_to(q[row * 8 + d], a * cos(angle) - b * sin(angle), 1e-5));
      CHECK(close_to(q[row * 8 + d + 4], b * cos(angle) + a * sin(angle), 1e-5));
    }
  }
  OK(fl_make_cos_sin_cache(6, 8, 0, 100, table, 48));
  const fl_tensor tt = FL_TENSOR(table, FL_F32, 6, 8), tb = FL_TENSOR(by_table, FL_F32, 2, 2, 8);
  const fl_tensor tk2 = FL_TENSOR(k2, FL_F32, 2, 1, 8);
  OK(fl_apply_rope_with_cos_sin_cache_inplace(&tb, &tk2, positions, &tt, 1, NULL));
  for (int i = 0; i < 32; ++i) CHECK(close_to(by_table[i], (double)q[i], 1e-6));
  /* Positions of 64 bits: the same bits. One whose lower half alone is a row of the table is refused. */
  int64_t wide[] = {0, 5};
  float by_wide[32], k3[16];
  memcpy(by_wide, plain, sizeof by_wide), draw(k3, 16, 12);
  const fl_tensor tw = FL_TENSOR(by_wide, FL_F32, 2, 2, 8), tk3 = FL_TENSOR(k3, FL_F32, 2, 1, 8);
  OK(fl_apply_rope_with_cos_sin_cache_inplace_int64(&tw, &tk3, wide, &tt, 1, NULL));
  CHECK(memcmp(by_wide, by_table, sizeof by_wide) == 0 && memcmp(k3, k2, sizeof k3) == 0);
  wide[1] = (INT64_C(1) << 32) + 5;
  REFUSED(fl_apply_rope_with_cos_sin_cache_inplace_int64(&tw, &tk3, wide, &tt, 1, NULL), "positions[1] = 4294967301: ");
  REFUSED(fl_apply_rope_with_cos_sin_cache_inplace_int64(&tw, &tk3, NULL, &tt, 1, NULL), "positions = ");
  CHECK(memcmp(by_wide, by_table, sizeof by_wide) == 0);
  /* Pairs (2 d, 2 d + 1): by angles and by the table the same again, and not what the halves gave. */
  const fl_rope pairs = {.size = sizeof pairs, .interleave = 1, .rope_theta = 100};
  memcpy(q, plain, sizeof q), memcpy(by_table, plain, sizeof q);
  OK(fl_apply_rope_pos_ids_inplace(&tq, &tk, positions, &pairs, NULL));
  OK(fl_apply_rope_with_cos_sin_cache_inplace(&tb, &tk2, positions, &tt, 0, NULL));
  const double angle = 5 * pow(100, -2.0 * 1 / 8);
  CHECK(close_to(q[16 + 2], (double)plain[16 + 2] * cos(angle) - (double)plain[16 + 3] * sin(angle), 1e-5));
  for (int i = 0; i < 32; ++i) CHECK(close_to(by_table[i], (double)q[i], 1e-6));
  REFUSED(fl_make_cos_sin_cache(6, 8, 0, 100, table, 47), "size = 47: must be max_pos * rotary_dim");
  /* Llama 3.1's scaling: with theta 100 and an old context of 100 tokens pair 0 turns 15.9 times within it and keeps its
     frequency, pair 3 turns half a time and is divided. */
  fl_rope llama = {.size = sizeof llama, .rotary_dim = 8, .rope_scale = 8, .rope_theta = 100, .old_context_len = 100};
  memcpy(q, plain, sizeof q), memcpy(by_table, plain, sizeof q);
  OK(fl_apply_rope_pos_ids_inplace(&tq, &tk, positions, &llama, NULL));
  OK(fl_make_rope_cos_sin_cache(6, &llama, table, 48));
  OK(fl_apply_rope_with_cos_sin_cache_inplace(&tb, &tk2, positions, &tt, 1, NULL));
  for (int i = 0; i < 32; ++i) CHECK(close_to(by_table[i], (double)q[i], 1e-6));
  const double slow = 5 * pow(100, -2.0 * 3 / 8) / 8;
  CHECK(close_to(q[16], (double)plain[16] * cos(5) - (double)plain[20] * sin(5), 1e-5));
  CHECK(close_to(q[19], (double)plain[19] * cos(slow) - (double)plain[23] * sin(slow), 1e-5));
  llama.high_freq_factor = 1;
  REFUSED(fl_make_rope_cos_sin_cache(6, &llama, table, 48), "high_freq_factor = 1: ");
  llama.old_context_len = 0;
  REFUSED(fl_apply_rope_pos_ids_inplace(&tq, &tk, positions, &llama, NULL), "high_freq_factor = 1: must be 0");
  REFUSED(fl_make_rope_cos_sin_cache(6, NULL, table, 48), "rope = NULL");
}

/* A pool grows two requests, a third shares the first one's prefix; rows are appended where the lists say. */
static void pool_and_append(void) {
  enum { PAGES = 8, PAGE = 4, DIM = 8 };
  fl_page_pool* pool = NULL;
  int32_t first = -1, second = -1, forked = -1, n = -1;
  const int32_t* live = NULL;
  const uint64_t seed = 3;
  fl_page_lists lists = {.size = sizeof lists};
  fl_page_copy copy = {.size = sizeof copy};
  OK(fl_page_pool_create(PAGES, PAGE, &seed, &pool));
  OK(fl_page_pool_add_request(pool, &first));
  OK(fl_page_pool_add_request(pool, &second));
  OK(fl_page_pool_append(pool, first, 6));
  OK(fl_page_pool_append(pool, second, 1));
  OK(fl_page_pool_table(pool, NULL, 0, &lists));
  CHECK(lists.batch == 2 && lists.num_indices == 3 && lists.indptr[2] == 3 && lists.last_page_len[0] == 2);
  OK(fl_validate_page_ids(&lists, PAGES));
  REFUSED(fl_validate_page_ids(&lists, 0), "paged_kv_indices[0]");

  static float cache[PAGES * 2 * PAGE * DIM], k[7 * DIM], v[7 * DIM];
  draw(k, 7 * DIM, 20), draw(v, 7 * DIM, 21);
  const int32_t append_indptr[] = {0, 6, 7};
  int32_t lens[2], rows[7], positions[7];
  OK(fl_get_seq_lens(lists.indptr, lists.last_page_len, 2, PAGE, lens, NULL));
  CHECK(lens[0] == 6 && lens[1] == 1);
  OK(fl_get_batch_indices_positions(append_indptr, lens, 2, rows, positions, 7, NULL));
  CHECK(rows[5] == 0 && positions[5] == 5 && rows[6] == 1 && positions[6] == 0);
  const fl_tensor tc = FL_TENSOR(cache, FL_F32, PAGES, 2, PAGE, 1, DIM);
  const fl_tensor tk = FL_TENSOR(k, FL_F32, 7, 1, DIM), tv = FL_TENSOR(v, FL_F32, 7, 1, DIM);
  const fl_kv_cache kv = {.size = sizeof kv, .k = &tc};
  OK(fl_append_paged_kv_cache(&tk, &tv, rows, positions, &kv, &lists, NULL));
  const size_t page = (size_t)lists.indices[1]; /* token 5 of the first request: its second page, entry 1 */
  CHECK(memcmp(cache + ((page * 2 + 0) * PAGE + 1) * DIM, k + 5 * DIM, DIM * sizeof(float)) == 0);
  CHECK(memcmp(cache + ((page * 2 + 1) * PAGE + 1) * DIM, v + 5 * DIM, DIM * sizeof(float)) == 0);

  /* RoPE and append at once: by angles and by a table the same key lands there, and it is not the plain one. */
  static float q[7 * DIM], table[8 * DIM], landed[DIM];
  const fl_tensor tq = FL_TENSOR(q, FL_F32, 7, 1, DIM), tt = FL_TENSOR(table, FL_F32, 8, DIM);
  float* const place = cache + ((page * 2 + 0) * PAGE + 1) * DIM;
  OK(fl_rope_pos_ids_append_paged_kv_cache(&tq, &tk, &tv, rows, positions, &kv, &lists, NULL, NULL));
  memcpy(landed, place, sizeof landed);
  CHECK(memcmp(landed, k + 5 * DIM, sizeof landed) != 0);
  OK(fl_make_cos_sin_cache(8, DIM, 0, 0, table, 8 * DIM));
  OK(fl_rope_with_cos_sin_cache_append_paged_kv_cache(&tq, &tk, &tv, &tt, rows, positions, &kv, &lists, 1, NULL));
  for (int d = 0; d < DIM; ++d) CHECK(close_to(place[d], (double)landed[d], 1e-5));

  /* By slots: the same places, and a row with -1 goes nowhere. */
  int64_t slots[7];
  for (int i = 0; i < 6; ++i) slots[i] = (int64_t)lists.indices[i / PAGE] * PAGE + i % PAGE;
  slots[6] = -1;
  static float by_slots[PAGES * 2 * PAGE * DIM], q2[7 * DIM], q3[7 * DIM];
  const fl_tensor ts = FL_TENSOR(by_slots, FL_F32, PAGES, 2, PAGE, 1, DIM), tq2 = FL_TENSOR(q2, FL_F32, 7, 1, DIM);
  const fl_tensor tq3 = FL_TENSOR(q3, FL_F32, 7, 1, DIM);
  const fl_kv_cache kv_slots = {.size = sizeof kv_slots, .k = &ts};
  float* const slot_place = by_slots + ((page * 2 + 0) * PAGE + 1) * DIM;
  OK(fl_append_paged_kv_cache_by_slots(&tk, &tv, slots, &kv_slots, NULL));
  CHECK(memcmp(slot_place, k + 5 * DIM, DIM * sizeof(float)) == 0);
  CHECK(by_slots[(size_t)lists.indices[2] * 2 * PAGE * DIM] == 0);
  draw(q2, 7 * DIM, 22), memcpy(q3, q2, sizeof q2);
  OK(fl_rope_pos_ids_append_paged_kv_cache_by_slots(&tq2, &tk, &tv, positions, slots, &kv_slots, NULL, NULL));
  CHECK(memcmp(slot_place, landed, sizeof landed) == 0);
  OK(fl_rope_with_cos_sin_cache_append_paged_kv_cache_by_slots(&tq3, &tk, &tv, &tt, positions, slots, &kv_slots, 1, NULL));
  for (int d = 0; d < DIM; ++d) CHECK(close_to(slot_place[d], (double)landed[d], 1e-5));
  for (int i = 0; i < 7 * DIM; ++i) CHECK(close_to(q2[i], (double)q3[i], 1e-5));
  slots[5] = PAGES * PAGE;
  REFUSED(fl_append_paged_kv_cache_by_slots(&tk, &tv, slots, &kv_slots, NULL), "slot_mapping[5] = 32: ");

  OK(fl_page_pool_fork(pool, first, 5, &forked, &copy));
  CHECK(forked == 2 && copy.entries == 1 && copy.source == (int32_t)page && copy.destination != copy.source);
  OK(fl_page_pool_uses(pool, lists.indices[0], &n));
  CHECK(n == 2);
  OK(fl_page_pool_remove(pool, second));
  OK(fl_page_pool_length(pool, first, &n));
  CHECK(n == 6);
  OK(fl_page_pool_free_pages(pool, &n));
  CHECK(n == PAGES - 3);
  OK(fl_page_pool_requests(pool, &live, &n));
  CHECK(n == 2 && live[0] == first && live[1] == forked);
  OK(fl_page_pool_table(pool, &forked, 1, &lists));
  CHECK(lists.batch == 1 && lists.num_indices == 2 && lists.indices[1] == copy.destination);
  REFUSED(fl_page_pool_append(pool, second, 1), "request = 1");
  const int32_t block_table[] = {0, 7}, seq_lens[] = {8};
  OK(fl_validate_block_ids(block_table, seq_lens, 1, 2, PAGE, PAGES));
  REFUSED(fl_validate_block_ids(block_table, seq_lens, 1, 2, PAGE, 7), "block_tables[0, 1] = 7");
  fl_page_pool_destroy(pool);
}

int main(void) {
  merging();
  norms();
  gemma_and_layernorm();
  rope();
  pool_and_append();
  return ended();
}
