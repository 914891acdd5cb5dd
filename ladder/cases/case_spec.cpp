#include "ladder/cases/case_spec.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.hpp"
#include "core/page_table.hpp"
#include "core/validate.hpp"

namespace flashladder::ladder {
namespace {

constexpr std::int64_t int32_most = std::numeric_limits<std::int32_t>::max();

// 1 + 2 + ... + n, nothing for n <= 0.
std::int64_t triangle(std::int64_t n) { return n > 0 ? n * (n + 1) / 2 : 0; }

// The sum of max(0, i + kv_len - qo_len + shift) over the queries i of one request. With shift 1 these are the keys up to
// the diagonal; with shift -w those that a window of w + 1 keys leaves out on the left.
std::int64_t sum_over_diagonals(std::int64_t qo_len, std::int64_t kv_len, std::int64_t shift) {
  return triangle(kv_len - 1 + shift) - triangle(kv_len - qo_len - 1 + shift);
}

double largest_finite(DType t) {
  if (is_fp8(t)) return t == DType::f8_e4m3 ? 448 : 57344;
  return t == DType::f16 ? 65504.0 : t == DType::bf16 ? 0x1.fep127 : static_cast<double>(std::numeric_limits<float>::max());
}

void validate_lengths(const CaseSpec& s) {
  require(!s.kv_lens.empty(), "kv_lens", "[]", "must list at least one request");
  require(s.qo_lens.size() == s.kv_lens.size(), "qo_lens", s.qo_lens.size(), "must have as many requests as kv_lens");
  for (std::size_t b = 0; b < s.kv_lens.size(); ++b) {
    require(s.kv_lens[b] >= 0, "kv_lens", s.kv_lens[b], "must be 0 or more", static_cast<int>(b));
    require(s.qo_lens[b] >= 0, "qo_lens", s.qo_lens[b], "must be 0 or more", static_cast<int>(b));
  }
  require(s.page_size >= 1, "page_size", s.page_size, "must be at least 1");
  require(s.nnz_qo() <= int32_most, "qo_lens", s.nnz_qo(), "must add up to at most 2^31 - 1");
  require(2 * s.total_pages() <= int32_most, "kv_lens", s.total_kv(),
          "take more than 2^30 - 1 pages: a case's pool is twice that, and page ids are int32");
  require(!s.block_table || s.batch() * s.max_pages() <= int32_most, "block_table", s.batch() * s.max_pages(),
          "would have more than 2^31 - 1 entries: as many rows as requests, each as long as the longest");
}

void validate_masks(const CaseSpec& s) {
  const bool custom = s.params.mask == MaskMode::custom;
  require(s.custom_mask == CustomMask::none || s.params.mask != MaskMode::causal, "custom_mask", name_of(s.custom_mask),
          "contradicts causal: a custom mask replaces it, so give one of them (custom_mask \"causal\" is causal, as bytes)");
  require(custom == (s.custom_mask != CustomMask::none), "custom_mask", name_of(s.custom_mask),
          "must be given with mask mode custom, and only with it");
}

void validate_mla(const CaseSpec& s) {
  if (s.op != Op::mla) return;
  const AttentionParams& p = s.params;
  require(p.num_kv_heads == 1, "num_kv_heads", p.num_kv_heads, "must be 1 with op mla: all heads share one latent row");
  require(p.head_dim_vo <= p.head_dim_qk, "head_dim_kpe", p.head_dim_qk - p.head_dim_vo, "must be 0 or more");
  const bool plain = p.mask != MaskMode::custom && p.window_left == -1 && p.logits_soft_cap == 0 && !p.sinks &&
                     p.pos_encoding_mode == PosEncodingMode::NONE && s.kv_layout == KvLayout::NHD;
  require(s.kv_scales != KvScaling::per_head, "kv_scales", name_of(s.kv_scales), "must be none or number with op mla");
  require(plain, "op", name_of(s.op),
          "takes no custom_mask, window_left, logits_soft_cap, pos_encoding_mode, sinks or kv_layout HND");
}

void validate_values(const CaseSpec& s) {
  const bool peak = s.values == Values::first_max || s.values == Values::last_max;
  const double amplitude = s.values == Values::large ? large_amplitude(s.params) : peak ? peak_amplitude(s.params) : 0;
  const bool fits = amplitude <= largest_finite(s.dtype) / 2 &&
                    (s.kv_scales != KvScaling::none || amplitude <= largest_finite(s.cache_dtype()) / 2);
  require(fits, "values", name_of(s.values),
          "needs elements larger than the dtype can hold: use a larger sm_scale or head_dim, or dtype f32");
}

}  // namespace

std::int64_t CaseSpec::nnz_qo() const {
  std::int64_t n = 0;
  for (std::int32_t len : qo_lens) n += len;
  return n;
}

std::int64_t CaseSpec::total_kv() const {
  std::int64_t n = 0;
  for (std::int32_t len : kv_lens) n += len;
  return n;
}

std::int64_t CaseSpec::total_pages() const {
  std::int64_t n = 0;
  for (std::int32_t len : kv_lens) n += pages_for(len, page_size);
  return n;
}

std::int64_t CaseSpec::max_pages() const {
  std::int32_t most = 0;
  for (std::int32_t len : kv_lens) most = std::max(most, pages_for(len, page_size));
  return std::int64_t{most} + 2;
}

std::int64_t CaseSpec::mask_bytes() const {
  std::int64_t n = 0;
  for (std::int32_t b = 0; b < batch(); ++b) n += std::int64_t{qo_lens[b]} * kv_lens[b];
  return n;
}

std::int64_t CaseSpec::visible_pairs() const {
  std::int64_t pairs = 0;
  for (std::int32_t b = 0; b < batch(); ++b) {
    const std::int64_t qo = qo_lens[b], kv = kv_lens[b];
    pairs += params.mask == MaskMode::causal ? sum_over_diagonals(qo, kv, 1) : qo * kv;
    if (params.window_left >= 0) pairs -= sum_over_diagonals(qo, kv, -std::int64_t{params.window_left});
  }
  return pairs;
}

// In double: exact far beyond any machine's memory, and it can't overflow.
std::size_t CaseSpec::bytes_estimate() const {
  const double element = static_cast<double>(size_of(dtype)), cached = static_cast<double>(size_of(cache_dtype()));
  const double rows = static_cast<double>(nnz_qo()) * params.num_qo_heads;
  const double dims = static_cast<double>(params.head_dim_qk) + params.head_dim_vo;
  const double slots = 2.0 * static_cast<double>(total_pages()) * page_size;  // the pool is twice too large
  double scores = 0;  // the naive rung's, of one head of one request, and K and V gathered for it: all in double
  for (std::int32_t b = 0; b < batch(); ++b) scores = std::max(scores, (qo_lens[b] + dims) * kv_lens[b] * 8);
  const double answers = rows * (params.head_dim_vo + 1.0) * (8 + 4 + 4);  // the oracle's, two rungs'
  const double mask = custom_mask == CustomMask::none ? 0 : static_cast<double>(mask_bytes());
  const double table = block_table ? static_cast<double>(batch()) * static_cast<double>(max_pages()) : 0;
  const double indices = 4.0 * (2.0 * static_cast<double>(total_pages()) + 5.0 * batch() + table);
  const double inputs = rows * params.head_dim_qk * element + slots * params.num_kv_heads * dims * cached + mask + indices;
  const double parts = op == Op::mla && !combined_cache ? inputs : 0;  // held apart too
  const double bytes = inputs + parts + scores + answers;
  constexpr double most = 0x1p63;
  return bytes < most ? static_cast<std::size_t>(bytes) : std::numeric_limits<std::size_t>::max();
}

// A logit is sm_scale * head_dim * amplitude^2 when q and k agree in all signs.
double large_amplitude(const AttentionParams& p) {
  return std::sqrt(1e5 / (static_cast<double>(p.sm_scale) * p.head_dim_qk));
}

// q's elements are at least 1/2 with the peak key's signs, so its logit is at least half of the 60 below: e^30 times the
// weight of an ordinary key. Where ordinary logits spread by more than 1, the peak rises with them.
double peak_amplitude(const AttentionParams& p) {
  const double scale = p.sm_scale, dim = p.head_dim_qk;
  return 60 * std::max(1.0, scale * std::sqrt(dim)) / (scale * dim);
}

void validate(const CaseSpec& spec) {
  validate_lengths(spec);
  validate_masks(spec);
  validate_mla(spec);
  flashladder::validate(spec.params);
  require(is_attention_dtype(spec.dtype), "dtype", name_of(spec.dtype), "must be f32, f16 or bf16");
  require(spec.cache_dtype() == spec.dtype || is_fp8(spec.cache_dtype()), "kv_dtype", name_of(spec.cache_dtype()),
          "must be f8_e4m3, f8_e5m2 or dtype");
  validate_values(spec);
}

}  // namespace flashladder::ladder
