// Plug-ins that misbehave: one library, and the environment says how. Those that get as far as a result compute the right
// one for the one shape that they take, a single key: o is its v, and lse_log2 its logit.
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "capi/plugin.h"

namespace {

struct State {
  fl_plugin_shape shape;
  fl_plugin_buffers buffers;
  int runs = 0;
};

void* volatile kept = nullptr;  // the last of what leaks: so that no compiler leaves the allocation out

bool is(const char* kind) {
  const char* chosen = std::getenv("FLASHLADDER_TEST_PLUGIN");
  return chosen != nullptr && std::strcmp(chosen, kind) == 0;
}

const char* supports(const fl_plugin_shape* s) {
  const bool one_key = s->batch == 1 && s->qo_lens[0] == 1 && s->kv_lens[0] == 1 && s->dtype == FL_F32;
  return one_key ? nullptr : "only one query and one key";
}

size_t workspace_bytes(const fl_plugin_shape*) { return 64; }

const char* prepare(const fl_plugin_shape* shape, const fl_plugin_buffers* buffers, void** state) {
  if (is("refuses in prepare")) return "no room for my tables";
  static int prepared = 0;
  ++prepared;
  if (is("fails when it is repeated") && prepared > 5) return "no sixth table";
  if (is("leaks a table")) kept = std::malloc(1 << 20);
  if (is("leaks a word")) kept = std::malloc(8);
  if (is("leaks what was free") && prepared == 1) {  // so much of it that most runs find theirs in the cache
    std::vector<void*> chunks(20000);
    for (void*& chunk : chunks) kept = chunk = std::malloc(48);
    for (void* chunk : chunks) std::free(chunk);
  }
  if (is("fills a cache") && prepared < 3000) kept = std::malloc(64);  // and then has all that it wants
  if (is("makes a large table late") && prepared == 24) kept = std::malloc(2 << 20);
  if (is("keeps one table") && prepared % 2 == 1) {                    // as large as it was ever needed, and freed at last
    std::free(kept);
    kept = std::malloc(static_cast<size_t>(1000 + prepared % 100));
  }
  *state = new State{*shape, *buffers};
  return nullptr;
}

void attend(const fl_plugin_shape& s, const fl_plugin_buffers& b) {
  const int64_t page = b.paged_kv_indices[0];
  for (int h = 0; h < s.num_qo_heads; ++h) {
    const int kv_head = h / (s.num_qo_heads / s.num_kv_heads);
    const float* q = static_cast<const float*>(b.q) + h * b.q_strides[1];
    const float* k = static_cast<const float*>(b.k) + page * b.k_strides[0] + kv_head * b.k_strides[2];
    const float* v = static_cast<const float*>(b.v) + page * b.v_strides[0] + kv_head * b.v_strides[2];
    float dot = 0;
    for (int c = 0; c < s.head_dim_qk; ++c) dot += q[c] * k[c];
    b.lse_log2[h] = dot * s.sm_scale * 1.44269504f;
    std::memcpy(b.o + int64_t{h} * s.head_dim_vo, v, sizeof(float) * static_cast<size_t>(s.head_dim_vo));
  }
}

const char* run(void* state, void*) {
  State& s = *static_cast<State*>(state);
  const fl_plugin_buffers& b = s.buffers;
  if (is("leaks in run") || is("leaks what was free")) kept = std::malloc(48);
  if (is("crashes")) std::raise(SIGSEGV);
  if (is("hangs")) for (;;) usleep(1000);
  if (is("exits")) _exit(0);
  if (is("throws")) throw std::runtime_error("out of luck");
  if (is("is slow and has a long name")) usleep(20000);
  if (is("says no")) return "the card is busy";
  attend(s.shape, b);
  if (is("writes behind o")) b.o[int64_t{s.shape.num_qo_heads} * s.shape.head_dim_vo] = 1;
  if (is("writes before lse")) b.lse_log2[-1] = 1;
  if (is("writes behind its workspace")) static_cast<char*>(b.workspace)[b.workspace_bytes] = 1;
  float* q = const_cast<float*>(static_cast<const float*>(b.q));
  if (is("writes behind q")) q[int64_t{s.shape.num_qo_heads} * b.q_strides[1]] = 1;
  if (is("changes q")) q[0] += 1;
  if (is("changes the page table")) const_cast<int32_t*>(b.paged_kv_indices)[0] += 1;
  if (is("leaves NaN")) std::memset(b.o, 0xff, sizeof(float));
  static int runs = 0;
  ++runs;
  if (is("crashes in the third run") && runs == 3) std::raise(SIGSEGV);
  if (is("is wrong from the third run on") && runs >= 3) b.o[0] += 1;
  if (is("counts its runs") && s.runs++ > 0) b.o[0] += 1;
  return nullptr;
}

void release(void* state) {
  delete static_cast<State*>(state);
  if (is("crashes in release")) std::abort();
}

}  // namespace

const fl_plugin* fl_plugin_entry(void) {
  if (is("crashes at once")) std::abort();
  static fl_plugin plugin = {sizeof(fl_plugin), FL_PLUGIN_VERSION, FL_CPU, "ill", nullptr, 0, 0,
                             supports, workspace_bytes, prepare, run, release};
  plugin.version = is("is of another version") ? FL_PLUGIN_VERSION + 1 : FL_PLUGIN_VERSION;
  plugin.run = is("lacks run") ? nullptr : run;
  plugin.name = is("is called C4") ? "C4" : is("is slow and has a long name") ? "slow_attention" : "ill";
  return &plugin;
}
