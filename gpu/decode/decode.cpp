#include "gpu/decode/decode.hpp"

namespace flashladder::gpu {
namespace {

std::string dim_is_none_of(std::int32_t head_dim, const char* dims) {
  return "head_dim " + std::to_string(head_dim) + " is none of " + dims;
}

}  // namespace

std::string d1::why_not(const AttentionParams& p, AttentionDTypes dtypes) {
  const std::string other = why_not_any_dtypes(dtypes);
  if (!other.empty()) return other;
  const std::string rope = why_no_rope(p);
  if (!rope.empty()) return rope;
  if (p.head_dim_qk + p.head_dim_vo > most_head_dims) {
    return "head_dim_qk + head_dim_vo is more than " + std::to_string(most_head_dims);
  }
  return "";
}

std::string why_not_lower_rungs(const AttentionParams& p, AttentionDTypes dtypes) {
  const DType dtype = dtypes.q;
  const std::string mixed = why_no_mixed_dtypes(dtypes);
  if (!mixed.empty()) return mixed;
  if (dtype != DType::f16) return std::string("dtype ") + name_of(dtype) + " is not f16";
  if (p.head_dim_qk != p.head_dim_vo) return "head_dim_qk and head_dim_vo differ";
  if (p.head_dim_qk != 64 && p.head_dim_qk != 128) return dim_is_none_of(p.head_dim_qk, "64, 128");
  if (p.mask == MaskMode::custom) return "a custom mask";
  if (p.logits_soft_cap > 0) return "a soft cap";
  if (p.pos_encoding_mode != PosEncodingMode::NONE) return std::string("pos_encoding_mode ") + name_of(p.pos_encoding_mode);
  return "";
}

std::string d6::why_not(const AttentionParams& p, AttentionDTypes dtypes) {
  const DType dtype = dtypes.q;
  const bool narrow = dtypes.kv == DType::f8_e4m3;
  const std::string mixed = narrow ? "" : why_no_mixed_dtypes(dtypes);
  if (!mixed.empty()) return mixed;
  if (dtype != DType::f16 && dtype != DType::bf16) {
    return std::string("dtype ") + name_of(dtype) + " is neither f16 nor bf16";
  }
  if (narrow && p.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA) {
    return "RoPE inside attention on 8-bit keys, which would be rounded to 8 bits once more";
  }
  if (p.head_dim_qk != p.head_dim_vo) return "head_dim_qk and head_dim_vo differ";
  if (p.head_dim_qk != 64 && p.head_dim_qk != 128 && p.head_dim_qk != 256) {
    return dim_is_none_of(p.head_dim_qk, "64, 128, 256");
  }
  return "";
}

}  // namespace flashladder::gpu
