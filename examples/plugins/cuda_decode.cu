// A template for a decode kernel of your own on the GPU: copy it, and put your algorithm into attend().
//   nvcc -O3 -std=c++17 -arch=native -Xcompiler -fPIC -shared cuda_decode.cu -o mine.so $(pkg-config --cflags flashladder)
//   flashladder verify --plugin ./mine.so
// As it is, a block computes one query head of one request: 128 keys at a time, a thread each; then a thread each takes a
// feature of o. It takes f32 and f16 with one query a request, and no more than sm_scale, causal and pages; everything else
// it refuses, and those cases are left out. docs/bring-your-own-kernel.md is the walk.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <flashladder/plugin.h>

#include <cmath>

namespace {

constexpr int threads = 128, max_dim = 128;

template <class T>  // float or __half
struct Params {
  const T *q, *k, *v;                       // q [batch, num_qo_heads, head_dim]; k, v: pages
  const int32_t *indptr, *indices, *last_page_len;  // page lists
  const int32_t *block_tables, *seq_lens;        // or a block table
  float *o, *lse_log2;                           // [batch, num_qo_heads, head_dim], [batch, num_qo_heads]
  int64_t q_row, q_head, k_page, k_entry, k_head, v_page, v_entry, v_head;
  int32_t num_qo_heads, group, dim, page_size, max_pages;
  float scale_log2;                              // sm_scale * log2 e: logits in base 2
};

__device__ float as_float(float x) { return x; }
__device__ float as_float(__half x) { return __half2float(x); }

template <class T>
__global__ void __launch_bounds__(threads) attend(Params<T> p) {
  __shared__ float q[max_dim], weight[threads], chunk_max[threads];
  const int head = blockIdx.x, request = blockIdx.y, kv_head = head / p.group, t = threadIdx.x;
  const int first = p.block_tables != nullptr ? request * p.max_pages : p.indptr[request];
  const int32_t* ids = (p.block_tables != nullptr ? p.block_tables : p.indices) + first;
  int len;
  if (p.block_tables != nullptr) {
    len = p.seq_lens[request];
  } else {
    const int pages = p.indptr[request + 1] - first;
    len = pages == 0 ? 0 : (pages - 1) * p.page_size + p.last_page_len[request];
  }
  if (t < p.dim) q[t] = as_float(p.q[request * p.q_row + head * p.q_head + t]);
  __syncthreads();  // q is read by all threads, and was written by some

  float m = -INFINITY, d = 0, o = 0;  // of the whole row, in every thread; o: of feature t
  for (int begin = 0; begin < len; begin += threads) {
    const int j = begin + t;
    float x = -INFINITY;
    if (j < len) {  // a slot behind the last key may hold NaN: it is not read
      const T* k = p.k + ids[j / p.page_size] * p.k_page + (j % p.page_size) * p.k_entry + kv_head * p.k_head;
      float dot = 0;
      for (int c = 0; c < p.dim; ++c) dot += q[c] * as_float(k[c]);
      x = dot * p.scale_log2;
    }
    chunk_max[t] = x;
    __syncthreads();  // every thread reads the maxima that all have written
    float new_m = m;
    for (int n = 0; n < threads; ++n) new_m = fmaxf(new_m, chunk_max[n]);
    weight[t] = exp2f(x - new_m);
    __syncthreads();  // the same for the weights; and nobody overwrites a maximum that another still reads
    const float keep = exp2f(m - new_m);
    m = new_m, d *= keep, o *= keep;
    const int end = min(threads, len - begin);
    for (int n = 0; n < end; ++n) {
      d += weight[n];
      if (t >= p.dim) continue;
      const int key = begin + n;
      const T* v = p.v + ids[key / p.page_size] * p.v_page + (key % p.page_size) * p.v_entry + kv_head * p.v_head;
      o += weight[n] * as_float(v[t]);
    }
    __syncthreads();  // the next chunk overwrites weights that this one still reads
  }
  const int64_t row = int64_t{request} * p.num_qo_heads + head;
  if (t < p.dim) p.o[row * p.dim + t] = d > 0 ? o / d : 0;  // a request without keys: o = 0, lse = -inf
  if (t == 0) p.lse_log2[row] = d > 0 ? m + log2f(d) : -INFINITY;
}

struct State {
  int32_t dtype;
  Params<float> f32;
  Params<__half> f16;
  dim3 grid;
};

template <class T>
Params<T> params(const fl_plugin_shape* s, const fl_plugin_buffers* b) {
  return {static_cast<const T*>(b->q), static_cast<const T*>(b->k), static_cast<const T*>(b->v),
          b->paged_kv_indptr, b->paged_kv_indices, b->paged_kv_last_page_len, b->block_tables, b->seq_lens, b->o,
          b->lse_log2, b->q_strides[0], b->q_strides[1], b->k_strides[0], b->k_strides[1], b->k_strides[2],
          b->v_strides[0], b->v_strides[1], b->v_strides[2], s->num_qo_heads, s->num_qo_heads / s->num_kv_heads,
          s->head_dim_qk, s->page_size, b->max_pages, s->sm_scale * 1.44269504f};
}

const char* supports(const fl_plugin_shape* s) {
  if (s->dtype != FL_F32 && s->dtype != FL_F16) return "only f32 and f16";
  if (s->head_dim_qk != s->head_dim_vo || s->head_dim_qk > max_dim) return "one head dim of at most 128";
  if (s->mask == FL_MASK_CUSTOM || s->window_left >= 0) return "no custom mask and no window";
  if (s->logits_soft_cap > 0 || s->sinks || s->pos_encoding_mode != FL_POS_NONE) return "plain logits only";
  if (s->batch > 65535) return "at most 65535 requests";
  for (int32_t r = 0; r < s->batch; ++r) {
    if (s->qo_lens[r] != 1) return "only decode: one query a request";
  }
  return nullptr;
}

const char* prepare(const fl_plugin_shape* s, const fl_plugin_buffers* b, void** state) {
  const dim3 grid(static_cast<unsigned>(s->num_qo_heads), static_cast<unsigned>(s->batch));
  *state = new State{s->dtype, params<float>(s, b), params<__half>(s, b), grid};
  return nullptr;
}

const char* run(void* state, void* stream) {
  const State& s = *static_cast<const State*>(state);
  if (s.grid.y == 0) return nullptr;
  const auto on = static_cast<cudaStream_t>(stream);
  if (s.dtype == FL_F32) attend<<<s.grid, threads, 0, on>>>(s.f32);
  if (s.dtype == FL_F16) attend<<<s.grid, threads, 0, on>>>(s.f16);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

void release(void* state) { delete static_cast<State*>(state); }

}  // namespace

const fl_plugin* fl_plugin_entry(void) {
  static const fl_plugin plugin = {sizeof(fl_plugin), FL_PLUGIN_VERSION, FL_GPU, "mine", "a block per request and head",
                                   0, 0, supports, nullptr, prepare, run, release};
  return &plugin;
}
