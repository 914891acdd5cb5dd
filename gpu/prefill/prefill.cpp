#include "gpu/prefill/prefill.hpp"

#include "gpu/prefill/boxes.hpp"

namespace flashladder::gpu {
namespace {

constexpr std::int32_t warp_group_rows = 64;

}  // namespace

std::string p11::why_not(const AttentionParams& p, DType dtype) {
  if (dtype != DType::f16 && dtype != DType::bf16) {
    return std::string("dtype ") + name_of(dtype) + " is neither f16 nor bf16";
  }
  const std::int32_t qk = p.head_dim_qk, vo = p.head_dim_vo;
  const bool taken = qk == vo ? qk == 64 || qk == 128 || qk == 256 : qk == 192 && vo == 128;
  if (!taken) {
    return "head_dim " + std::to_string(qk) + (qk == vo ? "" : " with " + std::to_string(vo)) +
           " is none of 64, 128, 256, 192 with 128";
  }
  if (p.pos_encoding_mode == PosEncodingMode::ROPE_LLAMA) return "pos_encoding_mode ROPE_LLAMA";
  return "";
}

std::string p11::why_not_pages(std::int32_t page_size) { return why_no_boxes(page_size, false); }

std::int32_t p11::pack(const AttentionParams& p, std::int64_t nnz_qo, std::int32_t batch) {
  const bool few = nnz_qo < std::int64_t{batch} * 2 * warp_group_rows;
  return few && p.group_size() <= warp_group_rows ? p.group_size() : 1;
}

RungGrid p11::grid(const AttentionParams& p, std::int32_t pack) {
  return {warp_groups(p.head_dim_qk) * (warp_group_rows / pack * pack), 1};
}

}  // namespace flashladder::gpu
