/* The C interface on a GPU: RMSNorm, RoPE with append, decode, a captured graph replayed for other batches, prefill by each
   backend that is here, single calls; all in bf16 against the same calls on the CPU. Exit code 77 where there is no GPU. */
#include "check.h"

#include <cuda_runtime_api.h>

enum { HEADS = 8, KV_HEADS = 2, DIM = 64, PAGE = 16, PAGES = 24, BATCH = 3, ROWS = 40, WIDTH = HEADS * DIM };

/* Memory that host and device read: the same arrays serve both. */
static void* memory(size_t bytes) {
  void* data = NULL;
  CHECK(cudaMallocManaged(&data, bytes, cudaMemAttachGlobal) == cudaSuccess);
  memset(data, 0, bytes);
  return data;
}
static void wait_for_device(void) { CHECK(cudaDeviceSynchronize() == cudaSuccess); }

/* bf16: the upper half of a float, here cut off. */
static float to_float(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float x;
  memcpy(&x, &wide, sizeof x);
  return x;
}
static uint16_t* drawn_bf16(size_t n, uint32_t seed) {
  uint16_t* const data = memory(n * sizeof *data);
  for (size_t i = 0; i < n; ++i) {
    const float x = drawn(&seed);
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    data[i] = (uint16_t)(bits >> 16);
  }
  return data;
}

/* Each side rounds to bf16 once (2^-8 of the number), and a tensor core's weights too. NaN is never close. */
static void check_same(const uint16_t* gpu, const uint16_t* cpu, size_t n) {
  wait_for_device();
  size_t off = 0, zero = 0;
  for (size_t i = 0; i < n; ++i) {
    const double want = (double)to_float(cpu[i]);
    if (!close_to((double)to_float(gpu[i]), want, 0.02 + fabs(want) / 64)) ++off;
    if (want == 0) ++zero;
  }
  CHECK(off == 0);
  CHECK(zero < n / 2);
}

static uint16_t *q, *o_cpu, *o_gpu, *pool;
static int32_t *indices, *indptr, *last_page_len;

/* Requests of these lengths, over pages in an order of their own. */
static fl_batch batch_of(const int32_t* lengths, int32_t batch) {
  int32_t used = 0;
  for (int32_t b = 0; b < batch; ++b) {
    indptr[b] = used;
    const int32_t pages = (lengths[b] + PAGE - 1) / PAGE;
    for (int32_t p = 0; p < pages; ++p, ++used) indices[used] = (used * 7 + 3) % PAGES;
    last_page_len[b] = pages == 0 ? 0 : lengths[b] - (pages - 1) * PAGE;
  }
  indptr[batch] = used;
  return (fl_batch){.size = sizeof(fl_batch), .batch = batch, .paged_kv_indptr = indptr,
                    .paged_kv_last_page_len = last_page_len};
}

static fl_attention_config config(int32_t device) {
  return (fl_attention_config){.size = sizeof(fl_attention_config), .num_qo_heads = HEADS, .num_kv_heads = KV_HEADS,
                               .head_dim_qk = DIM, .page_size = PAGE, .kv_dtype = FL_BF16, .device = device, .threads = 1};
}

static fl_attention* make(int32_t kind, const fl_attention_config* c, const fl_attention_limits* limits) {
  size_t device = 0, staging = 0;
  fl_attention* attention = NULL;
  OK(fl_attention_bytes_for_limits(kind, c, limits, &device, &staging));
  fl_workspace w = {.size = sizeof w, .device = memory(device + 16), .device_bytes = device, .staging_bytes = staging};
  if (staging > 0) CHECK(cudaMallocHost(&w.staging, staging) == cudaSuccess);
  OK(fl_attention_create(kind, c, kind == FL_GRAPH_DECODE ? limits : NULL, &w, &attention));
  return attention;
}

static fl_attention_arguments arguments_of(const fl_kv_cache* kv, const fl_tensor* tq, const fl_tensor* to) {
  return (fl_attention_arguments){.size = sizeof(fl_attention_arguments), .q = tq, .kv = kv, .o = to, .page_ids = indices,
                                  .num_page_ids = PAGES};
}

static void decode_and_graph(const fl_kv_cache* kv) {
  const fl_tensor tq = FL_TENSOR(q, FL_BF16, BATCH, HEADS, DIM), to_cpu = FL_TENSOR(o_cpu, FL_BF16, BATCH, HEADS, DIM);
  const fl_tensor to_gpu = FL_TENSOR(o_gpu, FL_BF16, BATCH, HEADS, DIM);
  fl_attention_arguments cpu = arguments_of(kv, &tq, &to_cpu), gpu = arguments_of(kv, &tq, &to_gpu);
  const fl_attention_limits limits = {.size = sizeof limits, .max_batch = BATCH, .max_pages = PAGES};
  const fl_attention_config on_cpu = config(FL_CPU), on_gpu = config(FL_GPU);
  fl_attention *reference = make(FL_DECODE, &on_cpu, &limits), *eager = make(FL_DECODE, &on_gpu, &limits);
  fl_attention* graph = make(FL_GRAPH_DECODE, &on_gpu, &limits);
  cudaStream_t stream = NULL;
  cudaGraph_t captured = NULL;
  cudaGraphExec_t launched = NULL;
  CHECK(cudaStreamCreate(&stream) == cudaSuccess);
  const int32_t lengths[3][BATCH] = {{37, 200, 5}, {1, 16, 300}, {100, 99, 98}};
  for (int i = 0; i < 3; ++i) {
    fl_batch batch = batch_of(lengths[i], BATCH);
    OK(fl_attention_plan(reference, &batch, NULL));
    OK(fl_attention_run(reference, &cpu, NULL));
    OK(fl_attention_plan(eager, &batch, stream));
    OK(fl_attention_run(eager, &gpu, stream));
    check_same(o_gpu, o_cpu, BATCH * WIDTH);
    memset(o_gpu, 0, BATCH * WIDTH * sizeof *o_gpu);
    batch.page_ids = indices;
    batch.num_page_ids = indptr[BATCH];
    OK(fl_attention_plan(graph, &batch, stream));
    if (i == 0) {
      fl_attention_arguments kept = gpu;
      kept.page_ids = NULL;
      kept.num_page_ids = 0;
      CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
      REFUSED(fl_attention_plan(graph, &batch, stream), "stream"); /* a capturing stream refuses a plan ... */
      CHECK(cudaStreamEndCapture(stream, &captured) == cudaSuccess && cudaGraphDestroy(captured) == cudaSuccess);
      OK(fl_attention_plan(graph, &batch, stream)); /* ... and what was refused is not in force */
      CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
      OK(fl_attention_run(graph, &kept, stream));
      CHECK(cudaStreamEndCapture(stream, &captured) == cudaSuccess);
      CHECK(cudaGraphInstantiate(&launched, captured, 0) == cudaSuccess);
    }
    CHECK(cudaGraphLaunch(launched, stream) == cudaSuccess);
    check_same(o_gpu, o_cpu, BATCH * WIDTH);
  }
  fl_attention_destroy(reference), fl_attention_destroy(eager), fl_attention_destroy(graph);
}

static void prefill(const fl_kv_cache* kv) {
  const fl_tensor tq = FL_TENSOR(q, FL_BF16, ROWS, HEADS, DIM), to_cpu = FL_TENSOR(o_cpu, FL_BF16, ROWS, HEADS, DIM);
  const fl_tensor to_gpu = FL_TENSOR(o_gpu, FL_BF16, ROWS, HEADS, DIM);
  const fl_attention_arguments cpu = arguments_of(kv, &tq, &to_cpu), gpu = arguments_of(kv, &tq, &to_gpu);
  const fl_attention_limits limits = {.size = sizeof limits, .max_batch = BATCH, .max_pages = PAGES, .max_nnz_qo = ROWS};
  const fl_logits causal = {.size = sizeof causal, .mask = FL_MASK_CAUSAL};
  const int32_t lengths[BATCH] = {37, 200, 5}, qo_indptr[] = {0, 20, 37, 40};
  fl_batch batch = batch_of(lengths, BATCH);
  batch.qo_indptr = qo_indptr;
  fl_attention_config c = config(FL_CPU);
  c.logits = &causal;
  fl_attention* attention = make(FL_PREFILL, &c, &limits);
  OK(fl_attention_plan(attention, &batch, NULL));
  OK(fl_attention_run(attention, &cpu, NULL));
  fl_attention_destroy(attention);
  c.device = FL_GPU;
  for (c.backend = FL_BACKEND_AUTO; c.backend <= FL_BACKEND_FA3; ++c.backend) {
    size_t device = 0, staging = 0;
    if (c.backend == FL_BACKEND_FA3 && fl_attention_bytes_for_limits(FL_PREFILL, &c, &limits, &device, &staging) != FL_OK) {
      printf("fa3 is not here: %s\n", fl_last_error());
      continue;
    }
    const char* who = NULL;
    attention = make(FL_PREFILL, &c, &limits);
    memset(o_gpu, 0, ROWS * WIDTH * sizeof *o_gpu);
    OK(fl_attention_plan(attention, &batch, NULL));
    OK(fl_attention_run(attention, &gpu, NULL));
    check_same(o_gpu, o_cpu, ROWS * WIDTH);
    OK(fl_attention_explain(attention, &who));
    printf("%s\n", who);
    fl_attention_destroy(attention);
  }
}

/* Norm, then RoPE and append, then one request's decode in a single call. */
static void operations(void) {
  const fl_on gpu = {.size = sizeof gpu, .device = FL_GPU};
  uint16_t* const weight = drawn_bf16(WIDTH, 4);
  const fl_tensor x = FL_TENSOR(q, FL_BF16, ROWS, WIDTH), w = FL_TENSOR(weight, FL_BF16, WIDTH);
  const fl_tensor cpu_out = FL_TENSOR(o_cpu, FL_BF16, ROWS, WIDTH), gpu_out = FL_TENSOR(o_gpu, FL_BF16, ROWS, WIDTH);
  OK(fl_rmsnorm(&x, &w, &cpu_out, 1e-6f, NULL));
  OK(fl_rmsnorm(&x, &w, &gpu_out, 1e-6f, &gpu));
  check_same(o_gpu, o_cpu, ROWS * WIDTH);

  OK(fl_gemma_rmsnorm(&x, &w, &cpu_out, 1e-6f, NULL));
  OK(fl_gemma_rmsnorm(&x, &w, &gpu_out, 1e-6f, &gpu));
  check_same(o_gpu, o_cpu, ROWS * WIDTH);
  OK(fl_layernorm(&x, &w, &w, &cpu_out, 1e-6f, NULL));
  OK(fl_layernorm(&x, &w, &w, &gpu_out, 1e-6f, &gpu));
  check_same(o_gpu, o_cpu, ROWS * WIDTH);

  const int32_t length[] = {ROWS};
  batch_of(length, 1);
  const size_t pool_size = (size_t)PAGES * 2 * PAGE * KV_HEADS * DIM;
  uint16_t *k = drawn_bf16(ROWS * KV_HEADS * DIM, 8), *v = drawn_bf16(ROWS * KV_HEADS * DIM, 9);
  int32_t *rows = memory(ROWS * sizeof *rows), *positions = memory(ROWS * sizeof *positions);
  for (int32_t i = 0; i < ROWS; ++i) positions[i] = i;
  const fl_tensor tk = FL_TENSOR(k, FL_BF16, ROWS, KV_HEADS, DIM), tv = FL_TENSOR(v, FL_BF16, ROWS, KV_HEADS, DIM);
  const fl_page_lists pages = {.size = sizeof pages, .indptr = indptr, .indices = indices, .last_page_len = last_page_len,
                               .num_indices = indptr[1], .batch = 1};
  uint16_t* made[2];
  for (int i = 0; i < 2; ++i) {
    made[i] = memory(pool_size * sizeof **made);
    uint16_t* const turned = i == 0 ? o_cpu : o_gpu; /* q is rotated in place: a copy of it */
    memcpy(turned, q, ROWS * WIDTH * sizeof *q);
    const fl_tensor tq = FL_TENSOR(turned, FL_BF16, ROWS, HEADS, DIM);
    const fl_tensor cache = FL_TENSOR(made[i], FL_BF16, PAGES, 2, PAGE, KV_HEADS, DIM);
    const fl_kv_cache kv = {.size = sizeof kv, .k = &cache};
    OK(fl_rope_pos_ids_append_paged_kv_cache(&tq, &tk, &tv, rows, positions, &kv, &pages, NULL, i == 0 ? NULL : &gpu));
    wait_for_device();
  }
  check_same(o_gpu, o_cpu, ROWS * WIDTH);
  for (size_t i = 0; i < pool_size; ++i) {
    if (!close_to((double)to_float(made[0][i]), (double)to_float(made[1][i]), 0.02)) CHECK(i == pool_size);
  }

  const fl_tensor tq = FL_TENSOR(q, FL_BF16, HEADS, DIM), one_cpu = FL_TENSOR(o_cpu, FL_BF16, HEADS, DIM);
  const fl_tensor one_gpu = FL_TENSOR(o_gpu, FL_BF16, HEADS, DIM);
  const fl_kv_cache tokens = {.size = sizeof tokens, .k = &tk, .v = &tv};
  fl_attention_arguments single = {.size = sizeof single, .q = &tq, .kv = &tokens, .o = &one_cpu};
  OK(fl_single_decode_with_kv_cache(&single, NULL, NULL));
  single.o = &one_gpu;
  OK(fl_single_decode_with_kv_cache(&single, NULL, &gpu));
  check_same(o_gpu, o_cpu, WIDTH);
}

int main(void) {
  if (fl_best_device() != FL_GPU) {
    printf("%s\n", fl_why_no_gpu());
    return 77;
  }
  pool = drawn_bf16((size_t)PAGES * 2 * PAGE * KV_HEADS * DIM, 1);
  q = drawn_bf16(ROWS * WIDTH, 2);
  o_cpu = memory(ROWS * WIDTH * sizeof *o_cpu);
  o_gpu = memory(ROWS * WIDTH * sizeof *o_gpu);
  indices = memory(PAGES * sizeof *indices);
  indptr = memory((BATCH + 1) * sizeof *indptr);
  last_page_len = memory(BATCH * sizeof *last_page_len);
  const fl_tensor cache = FL_TENSOR(pool, FL_BF16, PAGES, 2, PAGE, KV_HEADS, DIM);
  const fl_kv_cache kv = {.size = sizeof kv, .k = &cache};
  decode_and_graph(&kv);
  prefill(&kv);
  operations();
  return ended();
}
