// A template for a prefill kernel of your own on the GPU: copy it, and put your algorithm into attend().
//   nvcc -O3 -std=c++17 -arch=native -Xcompiler -fPIC -shared cuda_prefill.cu -o mine.so $(pkg-config --cflags flashladder)
//   flashladder verify --plugin ./mine.so
// As it is, a block computes a tile of 16 queries of one query head, four to each warp. Keys and values come to shared
// memory in tiles of 32, once for all 16 queries: a lane takes a key for the logits, and every 32nd feature of o for the
// sum. Requests may have any lengths, 0 too. It takes f32 and f16, and no more than sm_scale, causal and pages; everything
// else it refuses, and those cases are left out. docs/bring-your-own-kernel.md is the walk.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <flashladder/plugin.h>

#include <algorithm>
#include <cmath>

namespace {

constexpr int warps = 4, rows_of_warp = 4, tile_rows = warps * rows_of_warp, tile_keys = 32, max_dim = 128;
constexpr int features_of_lane = max_dim / 32;
constexpr unsigned all_lanes = 0xffffffff;

template <class T>  // float or __half
struct Params {
  const T *q, *k, *v;                                          // q [nnz_qo, num_qo_heads, head_dim]; k, v: pages
  const int32_t *qo_indptr, *kv_indptr, *indices, *last_page_len;  // queries of the requests; page lists
  const int32_t *block_tables, *seq_lens;                      // or a block table
  float *o, *lse_log2;                                         // [nnz_qo, num_qo_heads, head_dim], [nnz_qo, num_qo_heads]
  int64_t q_row, q_head, k_page, k_entry, k_head, v_page, v_entry, v_head;
  int32_t num_qo_heads, group, dim, page_size, max_pages;
  bool causal;
  float scale_log2;                                            // sm_scale * log2 e: logits in base 2
};

__device__ float as_float(float x) { return x; }
__device__ float as_float(__half x) { return __half2float(x); }

__device__ float max_of_lanes(float x) {
  for (int offset = 16; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(all_lanes, x, offset));
  return x;
}
__device__ float sum_of_lanes(float x) {
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(all_lanes, x, offset);
  return x;
}

struct Row {  // a query: the same m and d in all lanes of its warp, of o the features lane, lane + 32, ...
  float m = -INFINITY, d = 0, o[features_of_lane] = {};
};

template <class T>
__global__ void __launch_bounds__(32 * warps) attend(Params<T> p) {
  __shared__ float q[tile_rows][max_dim], v[tile_keys][max_dim];
  __shared__ float k[tile_keys][max_dim + 1];  // + 1: feature c of 32 keys lies in 32 banks
  const int head = blockIdx.y, request = blockIdx.z, kv_head = head / p.group, t = threadIdx.x, warp = t / 32, lane = t % 32;
  const int first_query = blockIdx.x * tile_rows, qo_begin = p.qo_indptr[request];
  const int qo_len = p.qo_indptr[request + 1] - qo_begin;
  if (first_query >= qo_len) return;  // the grid is as wide as the longest request
  const int queries = min(tile_rows, qo_len - first_query);

  const int64_t first_page = p.block_tables != nullptr ? int64_t{request} * p.max_pages : p.kv_indptr[request];
  const int32_t* ids = (p.block_tables != nullptr ? p.block_tables : p.indices) + first_page;
  int kv_len;
  if (p.block_tables != nullptr) {
    kv_len = p.seq_lens[request];
  } else {
    const int pages = p.kv_indptr[request + 1] - p.kv_indptr[request];
    kv_len = pages == 0 ? 0 : (pages - 1) * p.page_size + p.last_page_len[request];
  }
  // Query i sees the first seen_by(i) keys. Causal is aligned at the bottom right: the first queries may see none.
  const auto seen_by = [&](int i) { return p.causal ? max(kv_len - (qo_len - 1 - i), 0) : kv_len; };

  for (int n = t; n < queries * p.dim; n += 32 * warps) {
    const int row = n / p.dim, c = n % p.dim;
    q[row][c] = as_float(p.q[(qo_begin + first_query + row) * p.q_row + head * p.q_head + c]);
  }
  Row rows[rows_of_warp];
  const int end = seen_by(first_query + queries - 1);  // the tile's last query sees most
  for (int begin = 0; begin < end; begin += tile_keys) {
    const int keys = min(tile_keys, end - begin);  // a slot behind the last key may hold NaN: it is not read
    for (int n = t; n < keys * p.dim; n += 32 * warps) {
      const int key = n / p.dim, c = n % p.dim, entry = (begin + key) % p.page_size;
      const int64_t page = ids[(begin + key) / p.page_size];
      k[key][c] = as_float(p.k[page * p.k_page + entry * p.k_entry + kv_head * p.k_head + c]);
      v[key][c] = as_float(p.v[page * p.v_page + entry * p.v_entry + kv_head * p.v_head + c]);
    }
    __syncthreads();  // q, k and v are read by all threads, and each was written by one
#pragma unroll
    for (int r = 0; r < rows_of_warp; ++r) {
      const int row = warp * rows_of_warp + r;
      const int seen = row < queries ? min(seen_by(first_query + row) - begin, keys) : 0;
      if (seen <= 0) continue;  // the same in all lanes
      float x = -INFINITY;
      if (lane < seen) {
        float dot = 0;
        for (int c = 0; c < p.dim; ++c) dot += q[row][c] * k[lane][c];
        x = dot * p.scale_log2;
      }
      Row& state = rows[r];
      const float m = fmaxf(state.m, max_of_lanes(x)), keep = exp2f(state.m - m), weight = exp2f(x - m);
      state.m = m;
      state.d = state.d * keep + sum_of_lanes(weight);
      for (float& o : state.o) o *= keep;
      for (int n = 0; n < seen; ++n) {  // never weigh a hidden key with 0: its value may be NaN
        const float w = __shfl_sync(all_lanes, weight, n);
#pragma unroll
        for (int f = 0; f < features_of_lane; ++f) {
          if (lane + 32 * f < p.dim) state.o[f] += w * v[n][lane + 32 * f];
        }
      }
    }
    __syncthreads();  // the next tile overwrites keys and values that other warps still read
  }
#pragma unroll
  for (int r = 0; r < rows_of_warp; ++r) {
    const int row = warp * rows_of_warp + r;
    if (row >= queries) continue;
    const Row& state = rows[r];
    const int64_t out = int64_t{qo_begin + first_query + row} * p.num_qo_heads + head;
#pragma unroll
    for (int f = 0; f < features_of_lane; ++f) {  // a query that sees no key: o = 0, lse = -inf
      if (lane + 32 * f < p.dim) p.o[out * p.dim + lane + 32 * f] = state.d > 0 ? state.o[f] / state.d : 0;
    }
    if (lane == 0) p.lse_log2[out] = state.d > 0 ? state.m + log2f(state.d) : -INFINITY;
  }
}

struct State {
  int32_t dtype;
  Params<float> f32;
  Params<__half> f16;
  dim3 grid;  // (query tiles of the longest request, query heads, requests)
};

template <class T>
Params<T> params(const fl_plugin_shape* s, const fl_plugin_buffers* b) {
  return {static_cast<const T*>(b->q), static_cast<const T*>(b->k), static_cast<const T*>(b->v), b->qo_indptr,
          b->paged_kv_indptr, b->paged_kv_indices, b->paged_kv_last_page_len, b->block_tables, b->seq_lens, b->o,
          b->lse_log2, b->q_strides[0], b->q_strides[1], b->k_strides[0], b->k_strides[1], b->k_strides[2],
          b->v_strides[0], b->v_strides[1], b->v_strides[2], s->num_qo_heads, s->num_qo_heads / s->num_kv_heads,
          s->head_dim_qk, s->page_size, b->max_pages, s->mask == FL_MASK_CAUSAL, s->sm_scale * 1.44269504f};
}

const char* supports(const fl_plugin_shape* s) {
  if (s->dtype != FL_F32 && s->dtype != FL_F16) return "only f32 and f16";
  if (s->head_dim_qk != s->head_dim_vo || s->head_dim_qk > max_dim) return "one head dim of at most 128";
  if (s->mask == FL_MASK_CUSTOM || s->window_left >= 0) return "no custom mask and no window";
  if (s->logits_soft_cap > 0 || s->sinks || s->pos_encoding_mode != FL_POS_NONE) return "plain logits only";
  if (s->batch > 65535 || s->num_qo_heads > 65535) return "at most 65535 requests and query heads";
  return nullptr;
}

const char* prepare(const fl_plugin_shape* s, const fl_plugin_buffers* b, void** state) {
  int32_t longest = 0;
  for (int32_t r = 0; r < s->batch; ++r) longest = std::max(longest, s->qo_lens[r]);
  const dim3 grid(static_cast<unsigned>(longest / tile_rows + (longest % tile_rows != 0)),
                  static_cast<unsigned>(s->num_qo_heads), static_cast<unsigned>(s->batch));
  *state = new State{s->dtype, params<float>(s, b), params<__half>(s, b), grid};
  return nullptr;
}

const char* run(void* state, void* stream) {
  const State& s = *static_cast<const State*>(state);
  if (s.grid.x == 0) return nullptr;  // no request has a query
  const auto on = static_cast<cudaStream_t>(stream);
  if (s.dtype == FL_F32) attend<<<s.grid, 32 * warps, 0, on>>>(s.f32);
  if (s.dtype == FL_F16) attend<<<s.grid, 32 * warps, 0, on>>>(s.f16);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

void release(void* state) { delete static_cast<State*>(state); }

}  // namespace

const fl_plugin* fl_plugin_entry(void) {
  static const fl_plugin plugin = {sizeof(fl_plugin), FL_PLUGIN_VERSION, FL_GPU, "mine", "a block per 16 queries and head",
                                   0, 0, supports, nullptr, prepare, run, release};
  return &plugin;
}
