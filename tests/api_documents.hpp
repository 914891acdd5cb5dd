// What the tests of the documents' shapes share: a shape as a case, their workspace, and what makes a result right.
#pragma once

#include <algorithm>

#include "ladder/oracle.hpp"
#include "tests/api_prefill.hpp"

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

// The documents give every wrapper 128 MB.
struct Workspace128 {
  std::vector<std::byte> memory = std::vector<std::byte>(128u << 20);
  api::Workspace view() { return {.device = memory}; }
};

inline ladder::Comparison against(const ladder::Case& c, const Result& result, const ladder::Oracle& oracle) {
  return compare(c, result.o, result.lse_log2, oracle.o, oracle.lse_log2, oracle.tolerance);
}

inline void check_result(const ladder::Case& c, const Result& result) {
  const ladder::Comparison comparison = against(c, result, make_oracle(c));
  CHECK_MESSAGE(comparison.ok(), comparison.message());
}

// run(page_ids) is right with the case's pages, and wrong with the same pages one place further on.
template <class Run>
void check_pages(const ladder::Case& c, const Indices& page_ids, Run&& run) {
  const ladder::Oracle oracle = make_oracle(c);
  const ladder::Comparison right = against(c, run(page_ids), oracle);
  CHECK_MESSAGE(right.ok(), right.message());
  Indices shifted = page_ids;
  std::ranges::rotate(shifted, shifted.begin() + 1);
  CHECK_FALSE(against(c, run(shifted), oracle).ok());
}

}  // namespace flashladder::test
