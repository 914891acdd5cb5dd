#include "gpu/decode/decode.hpp"

#include <algorithm>
#include <cmath>

namespace flashladder::gpu {
namespace {

std::string dim_is_none_of(std::int32_t head_dim, const char* dims) {
  return "head_dim " + std::to_string(head_dim) + " is none of " + dims;
}

}  // namespace

std::string d1::why_not(const AttentionParams& p, DType dtype) {
  if (!is_attention_dtype(dtype)) return std::string("dtype ") + name_of(dtype) + " is none of f32, f16, bf16";
  const std::string rope = why_no_rope(p);
  if (!rope.empty()) return rope;
  if (p.head_dim_qk + p.head_dim_vo > most_head_dims) {
    return "head_dim_qk + head_dim_vo is more than " + std::to_string(most_head_dims);
  }
  return "";
}

std::string why_not_lower_rungs(const AttentionParams& p, DType dtype) {
  if (dtype != DType::f16) return std::string("dtype ") + name_of(dtype) + " is not f16";
  if (p.head_dim_qk != p.head_dim_vo) return "head_dim_qk and head_dim_vo differ";
  if (p.head_dim_qk != 64 && p.head_dim_qk != 128) return dim_is_none_of(p.head_dim_qk, "64, 128");
  if (p.mask == MaskMode::custom) return "a custom mask";
  if (p.logits_soft_cap > 0) return "a soft cap";
  if (p.pos_encoding_mode != PosEncodingMode::NONE) return std::string("pos_encoding_mode ") + name_of(p.pos_encoding_mode);
  return "";
}

std::string d6::why_not(const AttentionParams& p, DType dtype) {
  if (dtype != DType::f16 && dtype != DType::bf16) {
    return std::string("dtype ") + name_of(dtype) + " is neither f16 nor bf16";
  }
  if (p.head_dim_qk != p.head_dim_vo) return "head_dim_qk and head_dim_vo differ";
  if (p.head_dim_qk != 64 && p.head_dim_qk != 128 && p.head_dim_qk != 256) {
    return dim_is_none_of(p.head_dim_qk, "64, 128, 256");
  }
  if (p.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA) return "pos_encoding_mode ROPE_LLAMA";
  return "";
}

// Microseconds on an H200, fitted to both kernels' times over 1 to 14 tiles of 512 to 16384 keys (docs/measurements). D6: all
// SMs read, and each tile's partials meet in global memory. D7: only so many clusters read, each at a rate of its own or at
// its share of the memory's; where a tile is cut, its pieces meet there too.
std::int32_t d7::worth_clusters(const BatchShape& batch, std::int32_t resident) {
  if (batch.tiles < 1 || batch.tiles > resident) return 0;
  constexpr double least_keys = 2048;  // of a piece, so that its own time is worth the meeting
  const double tiles = static_cast<double>(batch.tiles);
  const double keys = static_cast<double>(batch.most_keys) * batch.head_dim / 128;  // of 512 bytes
  const double pieces = std::clamp(std::floor(keys / least_keys), 1.0, std::floor(resident / tiles));
  const double used = tiles * pieces;
  const double ours = 4.2 + (pieces > 1 ? 2 : 0) + keys / pieces * std::max(1.37e-3, 0.116e-3 * used);
  const double partials = std::min(264 / tiles, std::ceil(keys / 64));  // of a tile in D6
  const double theirs = 4.4 + 0.012 * partials * batch.rows + 0.11e-3 * tiles * keys;
  return ours < theirs ? static_cast<std::int32_t>(used) : 0;
}

}  // namespace flashladder::gpu
