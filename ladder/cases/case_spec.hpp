// A case before it has data: lengths, parameters, and how to draw the rest. What supports() answers about, what the JSON
// case tables and the short form of the command line describe (docs/case_format.md), what case and test tables list.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/attention_params.hpp"
#include "core/kv_cache.hpp"
#include "core/tensor.hpp"

namespace flashladder::ladder {

enum class CustomMask : std::uint8_t { none, causal, tree, random, empty_rows };
// normal: N(0, 1). equal: all keys alike, so all logits are. large: logits near +-1e5.
// first_max, last_max: one key in the first, last tile takes nearly all the weight.
enum class Values : std::uint8_t { normal, equal, large, first_max, last_max };

struct CaseSpec {
  std::string name;
  std::uint64_t seed = 1;
  std::vector<std::int32_t> qo_lens;  // [batch]
  std::vector<std::int32_t> kv_lens;  // [batch]
  AttentionParams params;             // params.mask is custom iff custom_mask is not none
  std::int32_t page_size = 16;
  DType dtype = DType::f32;           // q's and the cache's
  KvLayout kv_layout = KvLayout::NHD;
  bool combined_cache = true;         // one 5-D tensor; false, or head_dim_qk != head_dim_vo: two 4-D ones
  CustomMask custom_mask = CustomMask::none;
  Values values = Values::normal;

  std::int32_t batch() const { return static_cast<std::int32_t>(kv_lens.size()); }
  std::int64_t nnz_qo() const;
  std::int64_t total_kv() const;
  std::int64_t visible_pairs() const;     // (query, key) pairs that the mask leaves, of one head; a custom mask counts as none
  std::size_t bytes_estimate() const;     // host memory that drawing and checking the case will take
};

}  // namespace flashladder::ladder
