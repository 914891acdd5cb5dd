// A template for a kernel of your own on the CPU: copy it, keep what surrounds attend_row(), and put your algorithm there.
//   c++ -O2 -std=c++17 -fPIC -shared cpu_attention.cpp -o mine.so $(pkg-config --cflags flashladder)
//   flashladder verify --plugin ./mine.so
// As it is, it computes one row after the other: the logits of all keys that the query sees, their softmax, and the weighted
// sum of V. It takes f32 and f16 with any mask, window, soft cap and sinks; bf16, RoPE and ALiBi it refuses, and those
// cases are left out. docs/bring-your-own-kernel.md is the walk.
#include <flashladder/plugin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace {

struct State {  // what prepare() was given; a real kernel would plan here
  const fl_plugin_shape& shape;
  const fl_plugin_buffers& b;
  std::vector<int64_t> mask_begin;  // [batch]  where each request's bytes begin in custom_mask
};

const char* supports(const fl_plugin_shape* shape) {
  if (shape->dtype != FL_F32 && shape->dtype != FL_F16) return "only f32 and f16";
  if (shape->pos_encoding_mode != FL_POS_NONE) return "no position encoding";
  return nullptr;
}

// Where key j of request r lies: its page, and its entry in that page.
int64_t offset(const State& s, int r, int j, int kv_head, const int64_t* strides) {
  const int page = j / s.shape.page_size, entry = j % s.shape.page_size;
  const int32_t id = s.b.block_tables ? s.b.block_tables[int64_t{r} * s.b.max_pages + page]
                                      : s.b.paged_kv_indices[s.b.paged_kv_indptr[r] + page];
  return id * strides[0] + entry * strides[1] + kv_head * strides[2];
}

// Query i of request r sees key j. Causal is aligned at the bottom right; a custom mask stands in its place.
bool sees(const State& s, int r, int i, int j) {
  const int qo_len = s.shape.qo_lens[r], kv_len = s.shape.kv_lens[r], diagonal = i + kv_len - qo_len;
  if (s.shape.window_left >= 0 && j < diagonal - s.shape.window_left) return false;
  if (s.shape.mask == FL_MASK_CAUSAL) return j <= diagonal;
  if (s.shape.mask == FL_MASK_CUSTOM) return s.b.custom_mask[s.mask_begin[r] + int64_t{i} * kv_len + j] != 0;
  return true;
}

struct Half {
  uint16_t bits;
};

float as_float(float x) { return x; }
float as_float(Half x) {
  uint32_t bits = (x.bits & 0x7fffu) << 13;  // exponent and mantissa where a float has them, the exponent too small by 112
  float value;
  std::memcpy(&value, &bits, sizeof value);
  if (bits < 0x7c00u << 13) {
    value *= 0x1p112f;
  } else {  // infinity and NaN
    bits |= 0x7f800000u;
    std::memcpy(&value, &bits, sizeof value);
  }
  return (x.bits & 0x8000u) != 0 ? -value : value;
}

template <class T>
float logit(const State& s, const T* q, const T* k) {
  float dot = 0;
  for (int c = 0; c < s.shape.head_dim_qk; ++c) dot += as_float(q[c]) * as_float(k[c]);
  const float x = dot * s.shape.sm_scale, cap = s.shape.logits_soft_cap;
  return cap > 0 ? cap * std::tanh(x / cap) : x;
}

// One query head of one query: this is the kernel. T: of q, k and v.
template <class T>
void attend_row(const State& s, int r, int i, int head) {
  const int kv_head = head / (s.shape.num_qo_heads / s.shape.num_kv_heads), dim = s.shape.head_dim_vo;
  const int64_t row = s.b.qo_indptr[r] + i;
  const T *k = static_cast<const T*>(s.b.k), *v = static_cast<const T*>(s.b.v);
  const T* q = static_cast<const T*>(s.b.q) + row * s.b.q_strides[0] + head * s.b.q_strides[1];
  float* o = s.b.o + (row * s.shape.num_qo_heads + head) * dim;

  std::vector<int> keys;
  std::vector<float> weights;
  float max = s.shape.sinks ? s.b.sinks[head] : -INFINITY;
  for (int j = 0; j < s.shape.kv_lens[r]; ++j) {
    if (!sees(s, r, i, j)) continue;  // never weigh a hidden key with 0: its slot may hold NaN
    keys.push_back(j);
    weights.push_back(logit(s, q, k + offset(s, r, j, kv_head, s.b.k_strides)));
    max = std::max(max, weights.back());
  }
  float sum = s.shape.sinks ? std::exp(s.b.sinks[head] - max) : 0;
  for (float& w : weights) sum += w = std::exp(w - max);
  std::fill_n(o, dim, 0.0f);  // a row that sees nothing: o = 0, lse = -inf
  for (size_t n = 0; n < keys.size(); ++n) {
    const T* value = v + offset(s, r, keys[n], kv_head, s.b.v_strides);
    for (int c = 0; c < dim; ++c) o[c] += weights[n] / sum * as_float(value[c]);
  }
  s.b.lse_log2[row * s.shape.num_qo_heads + head] = sum > 0 ? (max + std::log(sum)) / std::log(2.0f) : -INFINITY;
}

const char* prepare(const fl_plugin_shape* shape, const fl_plugin_buffers* buffers, void** state) {
  auto* s = new State{*shape, *buffers, {}};
  int64_t begin = 0;
  for (int r = 0; r < shape->batch; ++r) {
    s->mask_begin.push_back(begin);
    begin += int64_t{shape->qo_lens[r]} * shape->kv_lens[r];
  }
  *state = s;
  return nullptr;
}

const char* run(void* state, void*) {
  const State& s = *static_cast<const State*>(state);
  for (int r = 0; r < s.shape.batch; ++r) {
    for (int i = 0; i < s.shape.qo_lens[r]; ++i) {
      for (int head = 0; head < s.shape.num_qo_heads; ++head) {
        if (s.shape.dtype == FL_F32) attend_row<float>(s, r, i, head);
        else attend_row<Half>(s, r, i, head);
      }
    }
  }
  return nullptr;
}

void release(void* state) { delete static_cast<State*>(state); }

}  // namespace

const fl_plugin* fl_plugin_entry(void) {
  static const fl_plugin plugin = {sizeof(fl_plugin), FL_PLUGIN_VERSION, FL_CPU, "mine", "softmax row by row",
                                   0, 0, supports, nullptr, prepare, run, release};
  return &plugin;
}
