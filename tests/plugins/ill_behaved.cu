// Plug-ins that misbehave on the GPU: one library, and the environment says how. What they compute is right for the one
// shape that they take, a single key and a single head: o is its v, and lse_log2 its logit.
#include <cuda_runtime.h>

#include <flashladder/plugin.h>

#include <cstdlib>
#include <cstring>

namespace {

struct State {
  fl_plugin_shape shape;
  fl_plugin_buffers buffers;
};

bool is(const char* kind) {
  const char* chosen = std::getenv("FLASHLADDER_TEST_PLUGIN");
  return chosen != nullptr && std::strcmp(chosen, kind) == 0;
}

// q [head_dim_qk]; k and v: the pages, of which the first entry of the request's one page holds the key
__global__ void attend(const float* q, const float* k, const float* v, const int32_t* page_ids, int64_t k_page,
                       int64_t v_page, int dim_qk, int dim_vo, float scale_log2, float* o, float* lse_log2) {
  k += page_ids[0] * k_page;
  v += page_ids[0] * v_page;
  float dot = 0;
  for (int c = 0; c < dim_qk; ++c) dot += q[c] * k[c];
  for (int c = 0; c < dim_vo; ++c) o[c] = v[c];
  lse_log2[0] = dot * scale_log2;
}

__global__ void write(float* at) { *at = 1; }

const char* supports(const fl_plugin_shape* s) {
  const bool one_key = s->batch == 1 && s->qo_lens[0] == 1 && s->kv_lens[0] == 1 && s->dtype == FL_F32 &&
                       s->num_qo_heads == 1 && s->num_kv_heads == 1;
  return one_key ? nullptr : "only one query, one key and one head";
}

const char* prepare(const fl_plugin_shape* shape, const fl_plugin_buffers* buffers, void** state) {
  void* kept = nullptr;
  if (is("leaks device memory") && cudaMalloc(&kept, 1 << 20) != cudaSuccess) return "no device memory";
  if (is("leaks a little")) cudaMalloc(&kept, 4096);
  if (is("leaks host memory")) kept = std::malloc(1 << 16);
  *state = new State{*shape, *buffers};
  return nullptr;
}

const char* run(void* state, void* stream) {
  const State& s = *static_cast<State*>(state);
  const fl_plugin_buffers& b = s.buffers;
  const auto queue = static_cast<cudaStream_t>(stream);
  attend<<<1, 1, 0, queue>>>(static_cast<const float*>(b.q), static_cast<const float*>(b.k), static_cast<const float*>(b.v),
                             b.paged_kv_indices, b.k_strides[0], b.v_strides[0], s.shape.head_dim_qk, s.shape.head_dim_vo,
                             s.shape.sm_scale * 1.44269504f, b.o, b.lse_log2);
  float* q = const_cast<float*>(static_cast<const float*>(b.q));
  if (is("launches wrongly")) write<<<1, 4096, 0, queue>>>(b.o);
  if (is("writes to nowhere")) write<<<1, 1, 0, queue>>>(nullptr);
  if (is("writes behind o")) write<<<1, 1, 0, queue>>>(b.o + s.shape.head_dim_vo);
  if (is("changes q")) write<<<1, 1, 0, queue>>>(q);
  if (is("leaves NaN")) cudaMemsetAsync(b.o, 0xff, sizeof(float), queue);
  return nullptr;
}

void release(void* state) { delete static_cast<State*>(state); }

}  // namespace

const fl_plugin* fl_plugin_entry(void) {
  static const fl_plugin plugin = {sizeof(fl_plugin), FL_PLUGIN_VERSION, FL_GPU, "ill", nullptr, 0, 0,
                                   supports, nullptr, prepare, run, release};
  return &plugin;
}
