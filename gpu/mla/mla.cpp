#include "gpu/mla/mla.hpp"

#include "core/error.hpp"
#include "gpu/strides.hpp"

namespace flashladder::gpu {

MlaCall mla_call(const MlaProblem& problem, const AttentionOutput& output) {
  AttentionParams params = problem.params.attention();
  const MlaScales& scales = problem.scales;
  params.sm_scale *= scales.kpe;
  const PagedMlaCache& cache = problem.cache;
  return {.rows = {.q = problem.q_nope.data, .o = output.o.data, .lse = output.lse().empty() ? nullptr : output.lse().data(),
                   .sinks = nullptr, .q_token = problem.q_nope.strides[0], .o_token = output.o.strides[0],
                   .q_head = head_stride(problem.q_nope, "q_nope"), .o_head = head_stride(output.o, "o"),
                   .num_qo_heads = params.num_qo_heads, .group_size = params.num_qo_heads, .o_dtype = output.o.dtype,
                   .lse_factor = output.lse_factor(), .v_scale = scales.v, .plain_ends = scales.v == 1},
          .rotated = {problem.q_pe.data, problem.q_pe.strides[0], head_stride(problem.q_pe, "q_pe")},
          .kv = {cache.ckv, cache.kpe, cache.ckv_strides, cache.kpe_strides,
                 {problem.page_table().indices, cache.page_size, cache.num_pages}},
          .params = params, .nope_factor = scales.k / scales.kpe, .dtype = problem.q_nope.dtype, .kv_dtype = cache.dtype,
          .nnz_qo = problem.q_nope.shape[0]};
}

namespace {

std::string why_no_rung(const AttentionParams& p, DType dtype) {
  if (dtype != DType::f16 && dtype != DType::bf16) return std::string("dtype ") + name_of(dtype) + " is neither f16 nor bf16";
  if (p.head_dim_vo != mla_ckv || p.head_dim_qk != mla_ckv + mla_kpe) {
    return "head_dim_ckv " + std::to_string(p.head_dim_vo) + " with head_dim_kpe " +
           std::to_string(p.head_dim_qk - p.head_dim_vo) + " is not 512 with 64";
  }
  if (p.mask == MaskMode::custom) return "a custom mask";
  if (p.window_left >= 0) return "a window";
  if (p.logits_soft_cap > 0) return "a soft cap";
  if (p.pos_encoding_mode != PosEncodingMode::NONE) return std::string("pos_encoding_mode ") + name_of(p.pos_encoding_mode);
  return p.sinks ? "sinks" : "";
}

}  // namespace

std::string l4::why_not(const AttentionParams& params, const MlaFormats& formats) {
  const std::string reason = why_no_rung(params, formats.q);
  if (!reason.empty() || formats.kv == formats.q || formats.kv == DType::f8_e4m3) return reason;
  return std::string("latent rows of ") + name_of(formats.kv) + " are neither of q's dtype nor of f8_e4m3";
}

std::string l5::why_not(const AttentionParams& params, const MlaFormats& formats) {
  const std::string reason = why_no_rung(params, formats.q);
  if (!reason.empty()) return reason;
  if (formats.kv != formats.q) {
    return std::string("latent rows of ") + name_of(formats.kv) +
           ": the copy engine brings rows to where wgmma reads them, and nothing widens them on the way";
  }
  return formats.scales ? "scales of latent rows" : "";
}

namespace {

void require_as(WhyNotMla& why_not, const MlaCall& call, const PackedShape& capacity, std::int32_t tile_rows) {
  const std::string no = why_not(call.params, {.q = call.dtype, .kv = call.kv_dtype, .scales = call.has_scales()});
  require(no.empty(), "mla", no, "is what this kernel does not compute");
  require(capacity.query_tile <= tile_rows, "plan.query_tile", capacity.query_tile, "is more than this kernel's tile has");
  require(capacity.pack == call.params.num_qo_heads && capacity.copies == 1, "plan.pack", capacity.pack,
          "must be all heads, which share each latent row");
  const std::size_t element = size_of(call.dtype), kv_element = size_of(call.kv_dtype);
  require_aligned("q_nope", call.rows.q, element, {call.rows.q_token, call.rows.q_head});
  require_aligned("q_pe", call.rotated.q, element, {call.rotated.token, call.rotated.head});
  require_aligned("ckv_cache", call.kv.ckv, kv_element, {call.kv.ckv_strides.page, call.kv.ckv_strides.entry});
  require_aligned("kpe_cache", call.kv.kpe, kv_element, {call.kv.kpe_strides.page, call.kv.kpe_strides.entry});
  require_aligned("o", call.rows.o, size_of(call.rows.o_dtype), {call.rows.o_token, call.rows.o_head});
}

}  // namespace

void require_mla(const MlaCall& call, const PackedShape& capacity, std::int32_t tile_rows) {
  require_as(l5::why_not, call, capacity, tile_rows);
}
void require_mla_of_rows(const MlaCall& call, const PackedShape& capacity, std::int32_t tile_rows) {
  require_as(l4::why_not, call, capacity, tile_rows);
}

}  // namespace flashladder::gpu
