// The batches of the documents by which FlashLadder was asked for: their lengths, heads and pages, as cases. What the tests
// on the CPU and on the GPU share.
#pragma once

#include <cstdint>
#include <vector>

#include "ladder/cases/drawn/draw_case.hpp"

namespace flashladder::test {

using Indices = std::vector<std::int32_t>;

struct Document {
  const char* name;
  Indices qo_lens, kv_lens;
  std::int32_t num_qo_heads, num_kv_heads, page_size;
  MaskMode mask = MaskMode::none;
  KvLayout layout = KvLayout::NHD;
  bool one_cache_tensor = true;
  PosEncodingMode pos_encoding_mode = PosEncodingMode::NONE;
};

inline ladder::CaseSpec spec_of(const Document& d, std::uint64_t seed) {
  ladder::CaseSpec spec{.name = d.name, .seed = seed, .qo_lens = d.qo_lens, .kv_lens = d.kv_lens, .page_size = d.page_size,
                        .dtype = DType::f16, .kv_layout = d.layout, .combined_cache = d.one_cache_tensor};
  spec.params = {.num_qo_heads = d.num_qo_heads, .num_kv_heads = d.num_kv_heads, .head_dim_qk = 128, .head_dim_vo = 128,
                 .sm_scale = default_sm_scale(128), .mask = d.mask, .pos_encoding_mode = d.pos_encoding_mode};
  return spec;
}

inline ladder::Case case_of(const Document& d, std::uint64_t seed) { return ladder::draw_case(spec_of(d, seed)); }

namespace documents {

// Of 17, 12, 15, 4, 18, 34 and 28 pages of 16, the last of which have 1, 7, 14, 4, 3, 1 and 16 tokens.
inline const Document seven_requests{"7 requests", Indices(7, 1), {257, 183, 238, 52, 275, 529, 448}, 64, 8, 16};
inline const Document pages_of_one{"32 x 64 tokens, page 1", Indices(32, 1), Indices(32, 64), 32, 32, 1};
inline const Document eight_prefills{"8 x 64 of 512", Indices(8, 64), Indices(8, 512), 32, 8, 16, MaskMode::causal};
inline const Document ten_and_fifteen{"10 and 15, HND", {10, 15}, {10, 15}, 32, 8, 16, MaskMode::causal, KvLayout::HND};
inline const Document batch_attention{"3 x 64 of 100", Indices(3, 64), Indices(3, 100), 32, 8, 1, MaskMode::causal};
// A server's: pages of one token, K and V in two tensors; prompts, and the decode that follows.
inline const Document prompts{"prompts, page 1", {37, 1, 130, 64}, {37, 1, 130, 64}, 32, 8, 1, MaskMode::causal,
                              KvLayout::NHD, false};
inline const Document decode_behind{"decode, page 1", Indices(4, 1), {38, 2, 131, 65}, 32, 8, 1, MaskMode::none,
                                    KvLayout::NHD, false};

}  // namespace documents

inline bool is_decode(const Document& d) { return d.qo_lens == Indices(d.qo_lens.size(), 1); }

}  // namespace flashladder::test
