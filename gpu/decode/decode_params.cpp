#include "gpu/decode/decode_params.hpp"

#include "core/error.hpp"

namespace flashladder::gpu {

namespace {

void require_aligned(const void* data, const KvStrides& s, const char* what) {
  constexpr int elements = 8;  // of 16 bytes
  const bool aligned = reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && s.page % elements == 0 &&
                       s.entry % elements == 0 && s.head % elements == 0;
  require(aligned, what, s.entry, "pointer and strides must be multiples of 16 bytes for the GPU");
}

}  // namespace

DecodeCall decode_call(const AttentionProblem& problem, const AttentionOutput& output) {
  const AttentionParams& p = problem.params;
  require_aligned(problem.kv.k, problem.kv.k_strides, "k_cache stride");
  require_aligned(problem.kv.v, problem.kv.v_strides, "v_cache stride");
  return {.params = {.q = problem.q.data, .k = problem.kv.k, .v = problem.kv.v,
                     .k_strides = problem.kv.k_strides, .v_strides = problem.kv.v_strides, .table = problem.page_table(),
                     .sinks = p.sinks ? problem.sinks.data() : nullptr,
                     .o = output.o.data, .lse_log2 = output.lse_log2.empty() ? nullptr : output.lse_log2.data(),
                     .num_qo_heads = p.num_qo_heads, .num_kv_heads = p.num_kv_heads,
                     .sm_scale = p.sm_scale, .soft_cap = p.logits_soft_cap, .o_dtype = output.o.dtype},
          .dtype = problem.q.dtype, .head_dim = p.head_dim_qk, .batch = problem.batch()};
}

PlannedParams planned_params(const WorkItem* items, const Merge* merges, std::int64_t partial_rows, std::int32_t head_dim,
                             void* workspace) {
  auto* partial_o = static_cast<float*>(workspace);
  return {items, merges, partial_o, partial_o + partial_rows * head_dim};
}

std::string why_no_decode(const AttentionParams& p, DType dtype) {
  if (dtype != DType::f16 && dtype != DType::bf16)
    return std::string("dtype ") + name_of(dtype) + " is neither f16 nor bf16";
  if (p.head_dim_qk != p.head_dim_vo) return "head_dim_qk and head_dim_vo differ";
  if (p.head_dim_qk != 64 && p.head_dim_qk != 128 && p.head_dim_qk != 256) {
    return "head_dim " + std::to_string(p.head_dim_qk) + " is none of 64, 128, 256";
  }
  if (p.mask == MaskMode::custom) return "a custom mask";
  if (p.window_left >= 0) return "a window";
  if (p.pos_encoding_mode != PosEncodingMode::NONE) return std::string("pos_encoding_mode ") + name_of(p.pos_encoding_mode);
  return "";
}

}  // namespace flashladder::gpu
