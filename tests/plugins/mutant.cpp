// The ladder's known mistakes as plug-ins: one library, and the environment says which of them it is.
#include <cstdlib>
#include <string>

#include "capi/plugin.h"
#include "core/attention_problem.hpp"
#include "ladder/plugin/faulty_attention.hpp"

namespace {

using namespace flashladder;

struct State {
  AttentionProblem problem;
  AttentionOutput output;
};

ladder::Fault chosen() {
  const char* name = std::getenv("FLASHLADDER_TEST_PLUGIN");
  for (const ladder::FaultInfo& f : ladder::faults()) {
    if (name != nullptr && std::string(name) == f.name) return f.fault;
  }
  return ladder::Fault::none;
}

template <class T>
std::span<const T> array(const T* data, std::int64_t size) {
  return data == nullptr ? std::span<const T>() : std::span<const T>(data, static_cast<std::size_t>(size));
}

AttentionParams params(const fl_plugin_shape& s) {
  return {.num_qo_heads = s.num_qo_heads, .num_kv_heads = s.num_kv_heads, .head_dim_qk = s.head_dim_qk,
          .head_dim_vo = s.head_dim_vo, .sm_scale = s.sm_scale, .mask = static_cast<MaskMode>(s.mask),
          .window_left = s.window_left, .logits_soft_cap = s.logits_soft_cap,
          .pos_encoding_mode = static_cast<PosEncodingMode>(s.pos_encoding_mode), .rope_scale = s.rope_scale,
          .rope_theta = s.rope_theta, .sinks = s.sinks != 0};
}

AttentionProblem problem(const fl_plugin_shape& s, const fl_plugin_buffers& b) {
  const DType dtype = s.dtype == FL_F32 ? DType::f32 : s.dtype == FL_F16 ? DType::f16 : DType::bf16;
  AttentionProblem p;
  p.params = params(s);
  p.q = contiguous(const_cast<void*>(b.q), dtype, {b.qo_indptr[s.batch], s.num_qo_heads, s.head_dim_qk});
  p.kv = {.k = const_cast<void*>(b.k), .v = const_cast<void*>(b.v), .dtype = dtype,
          .k_strides = {b.k_strides[0], b.k_strides[1], b.k_strides[2]},
          .v_strides = {b.v_strides[0], b.v_strides[1], b.v_strides[2]}, .num_pages = b.num_pages, .page_size = s.page_size,
          .num_kv_heads = s.num_kv_heads, .head_dim_qk = s.head_dim_qk, .head_dim_vo = s.head_dim_vo};
  p.qo_indptr = array(b.qo_indptr, s.batch + 1);
  p.paged_kv_indptr = array(b.paged_kv_indptr, s.batch + 1);
  if (b.paged_kv_indptr != nullptr) p.paged_kv_indices = array(b.paged_kv_indices, b.paged_kv_indptr[s.batch]);
  p.paged_kv_last_page_len = array(b.paged_kv_last_page_len, s.batch);
  p.block_tables = array(b.block_tables, std::int64_t{s.batch} * b.max_pages);
  p.seq_lens = array(b.seq_lens, s.batch);
  p.sinks = array(b.sinks, s.num_qo_heads);
  std::int64_t mask = 0;
  for (std::int32_t r = 0; r < s.batch; ++r) mask += std::int64_t{s.qo_lens[r]} * s.kv_lens[r];
  p.custom_mask = array(b.custom_mask, mask);
  return p;
}

const char* supports(const fl_plugin_shape*) { return nullptr; }

const char* prepare(const fl_plugin_shape* shape, const fl_plugin_buffers* buffers, void** state) {
  const std::int64_t rows = buffers->qo_indptr[shape->batch];
  *state = new State{problem(*shape, *buffers),
                     {.o = contiguous(buffers->o, DType::f32, {rows, shape->num_qo_heads, shape->head_dim_vo}),
                      .lse_log2 = {buffers->lse_log2, static_cast<std::size_t>(rows * shape->num_qo_heads)}}};
  return nullptr;
}

const char* run(void* state, void*) {
  const State& s = *static_cast<const State*>(state);
  ladder::faulty_attend(chosen(), s.problem, s.output);
  return nullptr;
}

void release(void* state) { delete static_cast<State*>(state); }

}  // namespace

const fl_plugin* fl_plugin_entry(void) {
  static const fl_plugin plugin = {sizeof(fl_plugin), FL_PLUGIN_VERSION, FL_CPU, "mutant", nullptr, 0, 0,
                                   supports, nullptr, prepare, run, release};
  return &plugin;
}
