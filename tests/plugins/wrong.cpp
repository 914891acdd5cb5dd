// Wrong kernels that share no code with the known mistakes: keys one by one, pieces of other sizes. One library, and the
// environment says what is wrong. Half of them make a mistake that has a name, in their own way; the others
// make one that has none.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "capi/plugin.h"

namespace {

struct State {
  const fl_plugin_shape* shape;
  const fl_plugin_buffers* b;
};

bool is(const char* kind) {
  static const char* chosen = std::getenv("FLASHLADDER_TEST_PLUGIN");
  return chosen != nullptr && std::strcmp(chosen, kind) == 0;
}

struct Row {  // a query head of a query
  const fl_plugin_shape& s;
  const fl_plugin_buffers& b;
  int r, i, head;
  int64_t mask_begin;

  int kv_len() const {
    const int n = s.kv_lens[r];
    if (is("whole tiles only")) return n > 32 ? n / 32 * 32 : n;
    if (is("whole pages")) return (n + s.page_size - 1) / s.page_size * s.page_size;
    return is("exclusive end") ? std::max(n - 1, 0) : n;
  }
  int kv_head() const {
    if (is("interleaved groups")) return head % s.num_kv_heads;
    return is("first kv head only") ? 0 : head / (s.num_qo_heads / s.num_kv_heads);
  }
  int64_t offset(int j, const int64_t* strides, bool value) const {
    int page = j / s.page_size, entry = j % s.page_size;
    if (is("v of the next entry") && value) entry = (entry + 1) % std::max(1, std::min(s.kv_lens[r], s.page_size));
    const int32_t* ids = b.block_tables ? b.block_tables : b.paged_kv_indices;
    const int64_t first = b.block_tables ? int64_t{r} * b.max_pages : b.paged_kv_indptr[r];
    int64_t id = ids[first + page];
    if (is("contiguous pages")) id = (first + page) % b.num_pages;
    if (is("first page again") && page == 1) id = ids[first];
    return id * strides[0] + entry * strides[1] + kv_head() * strides[2];
  }
  const float* k(int j) const { return static_cast<const float*>(b.k) + offset(j, b.k_strides, false); }
  const float* v(int j) const { return static_cast<const float*>(b.v) + offset(j, b.v_strides, true); }

  bool sees(int j) const {
    const int qo = s.qo_lens[r], kv = s.kv_lens[r], diagonal = i + kv - qo;
    const int w = s.window_left - (is("short window") ? 1 : 0) + (is("long window") ? 1 : 0);
    if (s.window_left >= 0 && j < diagonal - std::max(w, 0)) return false;
    if (s.mask == FL_MASK_CUSTOM && j < kv) {
      return b.custom_mask[mask_begin + (is("mask by columns") ? int64_t{j} * qo + i : int64_t{i} * kv + j)] != 0;
    }
    if (s.mask != FL_MASK_CAUSAL) return true;
    return j <= (is("causal from zero") ? i : is("one key ahead") ? diagonal + 1 : diagonal);
  }
  float logit(int j) const {
    const float* q = static_cast<const float*>(b.q) + (b.qo_indptr[r] + i) * b.q_strides[0] + head * b.q_strides[1];
    const float* key = k(j);
    float dot = 0;
    for (int c = 0; c < s.head_dim_qk; ++c) dot += q[c] * key[c];
    const float cap = s.logits_soft_cap;
    if (is("no scale")) return cap > 0 ? cap * std::tanh(dot / cap) : dot;
    if (is("scale of its own")) dot /= std::sqrt(static_cast<float>(s.head_dim_qk));
    else dot *= s.sm_scale;
    if (is("cap by clamping") && cap > 0) return std::clamp(dot, -cap, cap);
    return cap > 0 ? cap * std::tanh(dot / cap) : dot;
  }
};

struct Sum {
  float m = -INFINITY, d = 0;
  std::vector<float> o;
};

// Keys one by one, with the running maximum.
Sum online(const Row& row, int begin, int end) {
  Sum sum{is("maximum from zero") ? 0.0f : -INFINITY, 0, std::vector<float>(static_cast<size_t>(row.s.head_dim_vo))};
  for (int j = begin; j < end; ++j) {
    if (!row.sees(j)) continue;
    const float x = row.logit(j), m = std::max(sum.m, x), keep = sum.d > 0 ? std::exp(sum.m - m) : 0, w = std::exp(x - m);
    sum.d = (is("d keeps its scale") ? sum.d : sum.d * keep) + w;
    const float* v = row.v(j);
    for (size_t c = 0; c < sum.o.size(); ++c) sum.o[c] = (is("o keeps its scale") ? sum.o[c] : sum.o[c] * keep) + w * v[c];
    sum.m = m;
  }
  return sum;
}

// Pieces, each normalised, then merged by their lse, natural or base 2.
Sum split(const Row& row, int size) {
  Sum all{-INFINITY, 0, std::vector<float>(static_cast<size_t>(row.s.head_dim_vo))};
  int pieces = 0;
  for (int begin = 0; begin < row.kv_len(); begin += size) {
    const Sum part = online(row, begin, std::min(begin + size, row.kv_len()));
    ++pieces;
    if (part.d == 0) continue;
    const float lse = part.m + std::log(part.d), m = std::max(all.m, lse);
    float keep = all.d > 0 ? std::exp(all.m - m) : 0, w = std::exp(lse - m);
    if (is("equal shares")) keep = 1, w = 1;
    if (is("weights from maxima only")) w = std::exp(part.m - m);
    for (size_t c = 0; c < all.o.size(); ++c) all.o[c] = all.o[c] * keep + w * part.o[c] / part.d;
    all.d = all.d * keep + w;
    all.m = is("equal shares") ? 0 : m;
  }
  return all;
}

void attend(const Row& row) {
  const int64_t out = (row.b.qo_indptr[row.r] + row.i) * row.s.num_qo_heads + row.head;
  const bool pieces = is("equal shares") || is("weights from maxima only");
  Sum sum = pieces ? split(row, is("equal shares") ? 64 : 48) : online(row, 0, row.kv_len());
  if (row.s.sinks && !is("sinks forgotten")) {
    const float sink = row.b.sinks[row.head] * (is("sinks in base 2") ? 0.69314718f : 1.0f), m = std::max(sum.m, sink);
    const float keep = sum.d > 0 ? std::exp(sum.m - m) : 0;
    for (float& x : sum.o) x *= keep;
    sum.d = sum.d * keep + std::exp(sink - m), sum.m = m;
  }
  if (is("skips empty rows") && sum.d == 0) return;
  for (int c = 0; c < row.s.head_dim_vo; ++c) {
    row.b.o[out * row.s.head_dim_vo + c] = sum.d > 0 ? sum.o[static_cast<size_t>(c)] / sum.d : 0;
  }
  if (is("not divided")) for (int c = 0; c < row.s.head_dim_vo; ++c) row.b.o[out * row.s.head_dim_vo + c] *= sum.d;
  const float lse = sum.d > 0 ? sum.m + std::log(sum.d) : -INFINITY;
  row.b.lse_log2[out] = is("lse in e") ? lse : lse / 0.69314718f;
  if (is("lse without maximum")) row.b.lse_log2[out] = std::log2(sum.d);
}

const char* supports(const fl_plugin_shape* s) {
  return s->dtype == FL_F32 && s->pos_encoding_mode == FL_POS_NONE ? nullptr : "only f32 without position encoding";
}

const char* prepare(const fl_plugin_shape* shape, const fl_plugin_buffers* buffers, void** state) {
  *state = new State{shape, buffers};
  return nullptr;
}

const char* run(void* state, void*) {
  const State& s = *static_cast<const State*>(state);
  int64_t mask = 0;
  for (int r = 0; r < s.shape->batch; ++r) {
    for (int i = 0; i < s.shape->qo_lens[r]; ++i) {
      for (int head = 0; head < s.shape->num_qo_heads; ++head) attend({*s.shape, *s.b, r, i, head, mask});
    }
    mask += int64_t{s.shape->qo_lens[r]} * s.shape->kv_lens[r];
  }
  return nullptr;
}

void release(void* state) { delete static_cast<State*>(state); }

}  // namespace

const fl_plugin* fl_plugin_entry(void) {
  static const fl_plugin plugin = {sizeof(fl_plugin), FL_PLUGIN_VERSION, FL_CPU, "wrong", nullptr, 0, 0,
                                   supports, nullptr, prepare, run, release};
  return &plugin;
}
