// What a plug-in in C is given, as the ladder's own types again: for plug-ins of the tests that are made of its code.
#pragma once

#include "capi/plugin.h"
#include "core/attention_problem.hpp"

namespace flashladder::test {

template <class T>
std::span<const T> array(const T* data, std::int64_t size) {
  return data == nullptr ? std::span<const T>() : std::span<const T>(data, static_cast<std::size_t>(size));
}

inline AttentionParams params_from_c(const fl_plugin_shape& s) {
  return {.num_qo_heads = s.num_qo_heads, .num_kv_heads = s.num_kv_heads, .head_dim_qk = s.head_dim_qk,
          .head_dim_vo = s.head_dim_vo, .sm_scale = s.sm_scale, .mask = static_cast<MaskMode>(s.mask),
          .window_left = s.window_left, .logits_soft_cap = s.logits_soft_cap,
          .pos_encoding_mode = static_cast<PosEncodingMode>(s.pos_encoding_mode), .rope_scale = s.rope_scale,
          .rope_theta = s.rope_theta, .sinks = s.sinks != 0};
}
inline DType dtype_from_c(const fl_plugin_shape& s) {
  return s.dtype == FL_F32 ? DType::f32 : s.dtype == FL_F16 ? DType::f16 : DType::bf16;
}

// Sizes come from the lengths: index arrays may lie on a GPU.
inline AttentionProblem problem_from_c(const fl_plugin_shape& s, const fl_plugin_buffers& b) {
  const DType dtype = dtype_from_c(s);
  std::int64_t rows = 0, pages = 0, mask = 0;
  for (std::int32_t r = 0; r < s.batch; ++r) {
    rows += s.qo_lens[r], pages += pages_for(s.kv_lens[r], s.page_size);
    mask += std::int64_t{s.qo_lens[r]} * s.kv_lens[r];
  }
  AttentionProblem p;
  p.params = params_from_c(s);
  p.q = contiguous(const_cast<void*>(b.q), dtype, {rows, s.num_qo_heads, s.head_dim_qk});
  p.kv = {.k = const_cast<void*>(b.k), .v = const_cast<void*>(b.v), .dtype = dtype,
          .k_strides = {b.k_strides[0], b.k_strides[1], b.k_strides[2]},
          .v_strides = {b.v_strides[0], b.v_strides[1], b.v_strides[2]}, .num_pages = b.num_pages, .page_size = s.page_size,
          .num_kv_heads = s.num_kv_heads, .head_dim_qk = s.head_dim_qk, .head_dim_vo = s.head_dim_vo};
  p.qo_indptr = array(b.qo_indptr, s.batch + 1);
  p.paged_kv_indptr = array(b.paged_kv_indptr, s.batch + 1);
  p.paged_kv_indices = array(b.paged_kv_indices, pages);
  p.paged_kv_last_page_len = array(b.paged_kv_last_page_len, s.batch);
  p.block_tables = array(b.block_tables, std::int64_t{s.batch} * b.max_pages);
  p.seq_lens = array(b.seq_lens, s.batch);
  p.sinks = array(b.sinks, s.num_qo_heads);
  p.custom_mask = array(b.custom_mask, mask);
  return p;
}

inline AttentionOutput output_from_c(const fl_plugin_shape& s, const fl_plugin_buffers& b, std::int64_t rows) {
  return {.o = contiguous(b.o, DType::f32, {rows, s.num_qo_heads, s.head_dim_vo}),
          .lse_log2 = {b.lse_log2, static_cast<std::size_t>(rows * s.num_qo_heads)}};
}

}  // namespace flashladder::test
