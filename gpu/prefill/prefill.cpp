#include "gpu/prefill/prefill.hpp"

#include "gpu/attention/needs_general.hpp"
#include "gpu/prefill/boxes.hpp"

namespace flashladder::gpu {
namespace {

std::string dims(const AttentionParams& p) {
  return "head_dim_qk " + std::to_string(p.head_dim_qk) + " with head_dim_vo " + std::to_string(p.head_dim_vo);
}

}  // namespace

std::string why_not_lower_prefill(const AttentionParams& p, AttentionDTypes dtypes) {
  const DType dtype = dtypes.q;
  const std::string mixed = why_no_mixed_dtypes(dtypes);
  if (!mixed.empty()) return mixed;
  if (dtype != DType::f16) return std::string("dtype ") + name_of(dtype) + " is not f16";
  if (p.head_dim_qk != 128 || p.head_dim_vo != 128) return dims(p) + " is not 128 with 128";
  if (p.mask == MaskMode::custom) return "a custom mask";
  if (p.logits_soft_cap > 0) return "a soft cap";
  if (p.pos_encoding_mode != PosEncodingMode::NONE) return std::string("pos_encoding_mode ") + name_of(p.pos_encoding_mode);
  return "";
}

std::string p5::why_not(const AttentionParams& p, AttentionDTypes dtypes) {
  const DType dtype = dtypes.q;
  const std::string mixed = why_no_mixed_dtypes(dtypes);
  if (!mixed.empty()) return mixed;
  if (dtype != DType::f16 && dtype != DType::bf16) {
    return std::string("dtype ") + name_of(dtype) + " is neither f16 nor bf16";
  }
  const bool same = p.head_dim_qk == p.head_dim_vo && (p.head_dim_qk == 64 || p.head_dim_qk == 128 || p.head_dim_qk == 256);
  if (!same && !(p.head_dim_qk == 192 && p.head_dim_vo == 128)) {
    return dims(p) + " is none of 64 with 64, 128 with 128, 256 with 256, 192 with 128";
  }
  if (p.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA) return "pos_encoding_mode ROPE_LLAMA";
  return "";
}

std::string p11::why_not(const AttentionParams& p, AttentionDTypes dtypes) { return p5::why_not(p, dtypes); }
std::string p12::why_not(const AttentionParams& p, AttentionDTypes dtypes) {
  const std::string no_p11 = p11::why_not(p, dtypes);
  if (!no_p11.empty()) return no_p11;
  if (p.head_dim_qk != MixedShape::head_dim || p.head_dim_vo != MixedShape::head_dim) return dims(p) + " is not 128 with 128";
  if (p.logits_soft_cap > 0) return "a soft cap";
  return needs_general(p) ? "a custom mask or ALiBi" : "";
}

std::string p11::why_not_pages(std::int32_t page_size) { return why_no_boxes(page_size, false); }

std::int32_t p11::pack(const AttentionParams& p, std::int64_t nnz_qo, std::int64_t batch) {
  const bool few = nnz_qo < batch * 2 * warp_group_rows;
  return few && p.group_size() <= warp_group_rows ? p.group_size() : 1;
}

RungGrid p11::grid(const AttentionParams& p, std::int32_t pack) {
  return {warp_groups(p.head_dim_qk) * (warp_group_rows / pack * pack), 1};
}

}  // namespace flashladder::gpu
