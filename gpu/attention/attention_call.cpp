#include "gpu/attention/attention_call.hpp"

#include "core/error.hpp"
#include "gpu/rope/turns.hpp"
#include "gpu/strides.hpp"

namespace flashladder::gpu {
namespace {

const float* data_of(std::span<const float> per_head) { return per_head.empty() ? nullptr : per_head.data(); }

}  // namespace

AttentionCall attention_call(const AttentionProblem& problem, const AttentionOutput& output) {
  AttentionParams p = problem.params;
  const KvScales& scales = problem.scales;
  p.sm_scale *= scales.k;
  const PageTable table = problem.page_table();
  KvPages kv = kv_pages(problem.kv, table.indices);
  kv.k_scales = data_of(scales.k_per_head);
  return {.rows = {.q = problem.q.data, .o = output.o.data,
                   .lse = output.lse().empty() ? nullptr : output.lse().data(),
                   .sinks = p.sinks ? problem.sinks.data() : nullptr,
                   .q_token = problem.q.strides[0], .o_token = output.o.strides[0],
                   .q_head = head_stride(problem.q, "q"), .o_head = head_stride(output.o, "o"),
                   .num_qo_heads = p.num_qo_heads, .group_size = p.group_size(), .o_dtype = output.o.dtype,
                   .q_dtype = problem.q.dtype, .lse_factor = output.lse_factor(), .v_scale = scales.v,
                   .v_scales = data_of(scales.v_per_head),
                   .plain_ends = !p.sinks && scales.v == 1 && scales.v_per_head.empty()},
          .kv = kv, .table = table, .params = p,
          .custom_mask = p.mask == MaskMode::custom ? problem.custom_mask.data() : nullptr,
          .dtype = problem.q.dtype, .kv_dtype = problem.kv.dtype, .batch = problem.batch(), .nnz_qo = problem.q.shape[0]};
}

void require_16_bytes(const AttentionCall& call) {
  const std::size_t element = size_of(call.dtype), kv_element = size_of(call.kv_dtype);
  const KvStrides &k = call.kv.k_strides, &v = call.kv.v_strides;
  require_aligned("q", call.rows.q, element, {call.rows.q_token, call.rows.q_head});
  require_aligned("k_cache", call.kv.k, kv_element, {k.page, k.entry, k.head});
  require_aligned("v_cache", call.kv.v, kv_element, {v.page, v.entry, v.head});
  require_aligned("o", call.rows.o, size_of(call.rows.o_dtype), {call.rows.o_token, call.rows.o_head});
}

std::string why_no_mixed_dtypes(AttentionDTypes dtypes) {
  if (dtypes.k_per_head) return "scales of K per head are not taken by this kernel";
  if (dtypes.q == dtypes.kv) return "";
  return std::string("kv dtype ") + name_of(dtypes.kv) + " with q dtype " + name_of(dtypes.q) + " is not taken by this kernel";
}

std::string why_not_any_dtypes(AttentionDTypes dtypes) {
  if (!is_attention_dtype(dtypes.q)) return std::string("dtype ") + name_of(dtypes.q) + " is none of f32, f16, bf16";
  if (dtypes.q == dtypes.kv || is_fp8(dtypes.kv)) return "";
  return std::string("kv dtype ") + name_of(dtypes.kv) + " is not taken beside q dtype " + name_of(dtypes.q);
}

std::string why_no_rope(const AttentionParams& p) {
  constexpr std::int32_t most = 2 * RopeTurns::most_pairs;
  if (p.pos_encoding_mode != PosEncodingMode::ROPE_LLAMA || p.head_dim_qk <= most) return "";
  return "head_dim " + std::to_string(p.head_dim_qk) + " with ROPE_LLAMA is more than " + std::to_string(most);
}

}  // namespace flashladder::gpu
