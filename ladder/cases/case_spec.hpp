// A case before it has data: lengths, parameters, and how to draw the rest. What supports() answers about, what the JSON
// case tables and the short form of the command line describe (docs/case_format.md), what case and test tables list.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/attention_params.hpp"
#include "core/kv_cache.hpp"
#include "core/mla_params.hpp"
#include "core/tensor.hpp"

namespace flashladder::ladder {

// mla: multi-head latent attention (core/mla_params.hpp). Its spec has attention's params, as multi-query attention: one KV
// head, head_dim_qk = head_dim_ckv + head_dim_kpe, head_dim_vo = head_dim_ckv; so every rung that computes attention computes
// it too, from one tensor of both parts.
enum class Op : std::uint8_t { attention, mla };

// given: the mask came in a case file, so that it can't be drawn again.
enum class CustomMask : std::uint8_t { none, causal, tree, random, empty_rows, holes, given };
// Scales of K and V, calibrated to what is drawn: the largest number of K becomes the largest that fp8 holds. number: one for
// all heads; per_head: each head its own.
enum class KvScaling : std::uint8_t { none, number, per_head };
// normal: N(0, 1). equal: all keys alike, so all logits are. large: logits near +-1e5.
// first_max, last_max: one key in the first, last tile takes nearly all the weight. given: as above.
enum class Values : std::uint8_t { normal, equal, large, first_max, last_max, given };

constexpr const char* name_of(Op op) { return op == Op::attention ? "attention" : "mla"; }
constexpr const char* name_of(CustomMask m) {
  constexpr const char* names[] = {"none", "causal", "tree", "random", "empty_rows", "holes", "given"};
  return names[static_cast<int>(m)];
}
constexpr const char* name_of(Values v) {
  constexpr const char* names[] = {"normal", "equal", "large", "first_max", "last_max", "given"};
  return names[static_cast<int>(v)];
}
constexpr const char* name_of(KvScaling s) {
  constexpr const char* names[] = {"none", "number", "per_head"};
  return names[static_cast<int>(s)];
}
constexpr KvScaling usual_scaling(DType cache) { return is_fp8(cache) ? KvScaling::number : KvScaling::none; }

struct CaseSpec {
  std::string name;
  Op op = Op::attention;
  std::uint64_t seed = 1;
  std::vector<std::int32_t> qo_lens;  // [batch]
  std::vector<std::int32_t> kv_lens;  // [batch]
  AttentionParams params{};           // params.mask is custom iff custom_mask is not none
  std::int32_t page_size = 16;
  DType dtype = DType::f32;           // q's, and the cache's unless that has one of its own:
  std::optional<DType> kv_dtype{};    // f8_e4m3, f8_e5m2
  KvScaling kv_scales = KvScaling::none;
  KvLayout kv_layout = KvLayout::NHD;
  bool combined_cache = true;         // one 5-D tensor; false, or head_dim_qk != head_dim_vo: two 4-D ones. mla: q_nope and
                                      // q_pe are slices of one tensor, and so are ckv and kpe; false: four tensors
  bool block_table = false;           // page ids as a dense table [batch, max_pages] instead of lists
  CustomMask custom_mask = CustomMask::none;
  Values values = Values::normal;

  // All of these want a spec that validate() accepts.
  std::int32_t batch() const { return static_cast<std::int32_t>(kv_lens.size()); }
  DType cache_dtype() const { return kv_dtype.value_or(dtype); }
  MlaParams mla_params() const {
    return {params.num_qo_heads, params.head_dim_vo, params.head_dim_qk - params.head_dim_vo, params.sm_scale, params.mask};
  }
  bool one_cache_tensor() const { return combined_cache && params.head_dim_qk == params.head_dim_vo; }
  std::int64_t nnz_qo() const;
  std::int64_t total_kv() const;
  std::int64_t total_pages() const;
  std::int64_t max_pages() const;         // entries of a row of a drawn block table: the longest request's, and two to spare
  std::int64_t mask_bytes() const;        // sum of qo_len * kv_len: what a custom mask takes, were there one
  std::int64_t visible_pairs() const;     // (query, key) pairs that the mask leaves, of one head; custom counts as none
  std::size_t bytes_estimate() const;     // host memory that drawing and checking the case will take; saturates
};

// Sizes, options that contradict each other, values that the dtype can't hold. Throws InputError; argument names are the
// keys of a JSON case table.
void validate(const CaseSpec& spec);

// One line that names the work, the same whoever measures it: "B32 kv2048 32/8 p16", "B2 S8192 32/8 p16 causal",
// "1 x 65536 + 31 x 4096 32/8 p16". What is usual is left out: f16, head dim 128, NHD, no extras, a scale for fp8 and for it
// alone. Caches of fp8 have the names that torch gives them, as measurements of other libraries do.
std::string case_string(const CaseSpec& spec);

// Amplitudes of the drawn keys, such that the logits are what `values` promises (draw_values.cpp); for the range check too.
double large_amplitude(const AttentionParams& params);  // q and k elements of Values::large
double peak_amplitude(const AttentionParams& params);   // elements of the one key of Values::first_max and last_max

}  // namespace flashladder::ladder
