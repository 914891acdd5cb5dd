// Decode cases for the GPU rungs: the case table's lengths, shapes and values with one query for each request, and random
// ones that a split has something to cut in.
#pragma once

#include <vector>

#include "ladder/case_table.hpp"
#include "ladder/cases/random.hpp"

namespace flashladder::test {

// The spec as a decode rung takes it: head dims to the next of 64, 128, 256, and only the features that it has.
inline ladder::CaseSpec as_decode(ladder::CaseSpec spec, DType dtype) {
  AttentionParams& p = spec.params;
  spec.dtype = dtype;
  spec.qo_lens.assign(spec.kv_lens.size(), 1);
  spec.custom_mask = ladder::CustomMask::none;
  spec.block_table = false;
  p.head_dim_qk = p.head_dim_vo = p.head_dim_qk <= 64 ? 64 : p.head_dim_qk <= 128 ? 128 : 256;
  p.mask = p.mask == MaskMode::causal ? MaskMode::causal : MaskMode::none;
  p.window_left = -1;
  p.pos_encoding_mode = PosEncodingMode::NONE;
  spec.name += std::string(" as decode ") + name_of(dtype);
  return spec;
}

inline std::vector<ladder::CaseSpec> decode_table() {
  std::vector<ladder::CaseSpec> table;
  for (const ladder::CaseSpec& spec : ladder::case_table()) {
    for (const DType dtype : {DType::f16, DType::bf16}) table.push_back(as_decode(spec, dtype));
  }
  return table;
}

inline ladder::CaseSpec random_decode(std::uint64_t seed) {
  ladder::CaseSpec spec = as_decode(ladder::random_spec(seed), seed % 2 ? DType::f16 : DType::bf16);
  ladder::Random random(seed, 78);
  spec.params.head_dim_qk = spec.params.head_dim_vo = 64 << random.below(3);
  spec.params.num_qo_heads = spec.params.num_kv_heads * static_cast<std::int32_t>(1 + random.below(17));
  for (std::int32_t& len : spec.kv_lens) {
    if (random.below(3) == 0) len = static_cast<std::int32_t>(random.below(3000));
  }
  return spec;
}

}  // namespace flashladder::test
