// The rules one by one: params, cache, queries, mask, sinks, output. Those of lengths and page ids: validate_lengths.cpp.
#include "core/validate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/checks.hpp"
#include "core/refuse.hpp"

namespace flashladder {
namespace {

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();
// Far above any model's, and low enough that heads * head_dim stays a 32-bit number.
constexpr std::int32_t max_heads = 1 << 14, max_head_dim = 1 << 14;

void require_size(std::int32_t value, std::int32_t limit, const char* argument) {
  if (value < 1 || value > limit) refuse(argument, value, "must be 1 .. " + std::to_string(limit));
}

void require_positive(float value, const char* argument) {
  require(std::isfinite(value) && value > 0, argument, value, "must be finite and greater than 0");
}

void require_empty(std::span<const std::int32_t> values, const char* argument, const char* why) {
  require(values.empty(), argument, values.size(), why);
}

void validate_cache(const PagedKvCache& kv, const AttentionParams& p, bool has_pages) {
  require(kv.num_pages >= 0, "num_pages", kv.num_pages, "must not be negative");
  require_equal(kv.num_kv_heads, p.num_kv_heads, "kv cache num_kv_heads", "that of the params");
  require_equal(kv.head_dim_qk, p.head_dim_qk, "k cache head_dim", "head_dim_qk");
  require_equal(kv.head_dim_vo, p.head_dim_vo, "v cache head_dim", "head_dim_vo");
  require_data(kv.k, has_pages, "k cache");
  require_data(kv.v, has_pages, "v cache");
}

// The table, the cache, and each page id against the cache.
void validate_page_lists(const AttentionProblem& problem) {
  const std::int32_t page_size = problem.kv.page_size, num_pages = problem.kv.num_pages;
  validate_page_counts(problem.paged_kv_indptr, problem.paged_kv_last_page_len, page_size);
  const std::int32_t pages = problem.paged_kv_indptr.back();
  validate_cache(problem.kv, problem.params, pages > 0);
  if (problem.identity_pages) {
    require_empty(problem.paged_kv_indices, "paged_kv_indices size", "must be 0, since identity_pages is on");
    require(pages <= num_pages, "paged_kv_indptr", pages, "must end within the pool, since identity_pages is on");
    return;
  }
  validate_page_table(problem.paged_kv_indptr, problem.paged_kv_indices, problem.paged_kv_last_page_len, page_size);
  validate_page_ids(problem.paged_kv_indptr, problem.paged_kv_indices, num_pages);
}

void validate_blocks(const AttentionProblem& problem) {
  constexpr const char* why = "must be 0, since block_tables and seq_lens are given";
  require_empty(problem.paged_kv_indptr, "paged_kv_indptr size", why);
  require_empty(problem.paged_kv_indices, "paged_kv_indices size", why);
  require_empty(problem.paged_kv_last_page_len, "paged_kv_last_page_len size", why);
  require(!problem.identity_pages, "identity_pages", "on", "must be off, since block_tables are given");
  const std::int32_t page_size = problem.kv.page_size;
  validate_block_table(static_cast<std::int64_t>(problem.block_tables.size()), problem.seq_lens, page_size);
  require_data(problem.block_tables, "block_tables");
  const bool has_pages = std::ranges::any_of(problem.seq_lens, [](std::int32_t n) { return n > 0; });
  validate_cache(problem.kv, problem.params, has_pages);
  validate_block_ids(problem.block_tables, problem.seq_lens, page_size, problem.kv.num_pages);
}

void validate_mask(const AttentionProblem& problem) {
  const auto size = static_cast<std::int64_t>(problem.custom_mask.size());
  if (problem.params.mask != MaskMode::custom) {
    require(size == 0, "custom_mask size", size, "must be 0, since mask is not custom (a custom mask replaces causal)");
    return;
  }
  std::int64_t wanted = 0;  // at most (2^31 - 1)^2, since the qo_lens add up to an int32: no overflow
  for (std::int32_t b = 0; b < problem.batch(); ++b) wanted += std::int64_t{problem.qo_len(b)} * problem.kv_len(b);
  require_equal(size, wanted, "custom_mask size", "the sum of qo_len * kv_len, since mask is custom");
  require_data(problem.custom_mask, "custom_mask");
}

void validate_sinks(const AttentionProblem& problem) {
  const auto size = static_cast<std::int64_t>(problem.sinks.size());
  if (!problem.params.sinks) {
    require(size == 0, "sinks size", size, "must be 0, since params.sinks is off");
    return;
  }
  require_equal(size, problem.params.num_qo_heads, "sinks size", "num_qo_heads, since params.sinks is on");
  require_data(problem.sinks, "sinks");
  for (std::size_t h = 0; h < problem.sinks.size(); ++h) {
    const float sink = problem.sinks[h];  // -inf is the sink that weighs nothing
    if (!std::isnan(sink) && sink < std::numeric_limits<float>::infinity()) continue;
    require(false, element("sinks", static_cast<std::int64_t>(h)).c_str(), sink, "must be a number or -inf");
  }
}

void validate_scale(float number, std::span<const float> per_head, std::int32_t num_kv_heads, const char* name,
                    const char* per_head_name) {
  require_positive(number, name);
  if (per_head.empty()) return;
  require_equal(static_cast<std::int64_t>(per_head.size()), num_kv_heads, per_head_name, "num_kv_heads, or 0");
  require_data(per_head, per_head_name);
  require(number == 1, name, number, "must be 1 where scales per head are given: they are not multiplied");
}

void validate_scales_per_head(std::span<const float> per_head, const char* name) {
  for (std::size_t h = 0; h < per_head.size(); ++h) {
    if (std::isfinite(per_head[h]) && per_head[h] > 0) continue;
    require_positive(per_head[h], element(name, static_cast<std::int64_t>(h)).c_str());
  }
}

RowsRule q_rule(const AttentionProblem& problem) {
  const AttentionParams& p = problem.params;
  return {.name = "q", .nnz_qo = problem.qo_indptr.back(), .nnz_qo_is = "the last entry of qo_indptr",
          .num_qo_heads = p.num_qo_heads, .head_dim = p.head_dim_qk, .head_dim_is = "head_dim_qk"};
}

void validate_output(const AttentionOutput& output, std::int64_t nnz_qo, const AttentionParams& p) {
  require(output.o.dtype == DType::f32, "o dtype", dtype_name(output.o.dtype), "must be f32");
  validate_written_rows(output.o, {.name = "o", .nnz_qo = nnz_qo, .nnz_qo_is = "nnz_qo", .num_qo_heads = p.num_qo_heads,
                                   .head_dim = p.head_dim_vo, .head_dim_is = "head_dim_vo"});
  validate_lse(output, nnz_qo * p.num_qo_heads, "nnz_qo * num_qo_heads, or 0 if not wanted");
}

}  // namespace

void validate(const KvScales& scales, std::int32_t num_kv_heads) {
  validate_scale(scales.k, scales.k_per_head, num_kv_heads, "k_scale", "k_scale_per_head");
  validate_scale(scales.v, scales.v_per_head, num_kv_heads, "v_scale", "v_scale_per_head");
}

void validate_on_host(const KvScales& scales) {
  validate_scales_per_head(scales.k_per_head, "k_scale_per_head");
  validate_scales_per_head(scales.v_per_head, "v_scale_per_head");
}

void validate_lse(const AttentionOutput& output, std::int64_t wanted, const char* is) {
  const std::span<float> lse = output.lse();
  const auto size = static_cast<std::int64_t>(lse.size());
  require(output.lse_log2.empty() || output.lse_natural.empty(), "lse_natural size", size,
          "must be 0, since lse_log2 is given: one lse or none");
  if (size == 0) return;
  require_equal(size, wanted, output.lse_natural.empty() ? "lse_log2 size" : "lse_natural size", is);
  require_data(lse.data(), true, output.lse_name());
}

void validate(const AttentionParams& p) {
  require_size(p.num_qo_heads, max_heads, "num_qo_heads");
  require_size(p.num_kv_heads, max_heads, "num_kv_heads");
  if (p.num_qo_heads % p.num_kv_heads != 0) {
    refuse("num_qo_heads", p.num_qo_heads, "must be a multiple of num_kv_heads (" + std::to_string(p.num_kv_heads) + ")");
  }
  require_size(p.head_dim_qk, max_head_dim, "head_dim_qk");
  require_size(p.head_dim_vo, max_head_dim, "head_dim_vo");
  require_positive(p.sm_scale, "sm_scale");
  require(p.mask <= MaskMode::custom, "mask", static_cast<int>(p.mask), "must be none, causal or custom");
  require(p.window_left >= -1, "window_left", p.window_left, "must be at least 0, or -1 for no window");
  require(std::isfinite(p.logits_soft_cap) && p.logits_soft_cap >= 0, "logits_soft_cap", p.logits_soft_cap,
          "must be finite and greater than 0, or 0 for no cap");
  require(p.pos_encoding_mode <= PosEncodingMode::ALIBI, "pos_encoding_mode", static_cast<int>(p.pos_encoding_mode),
          "must be NONE, ROPE_LLAMA or ALIBI");
  require_positive(p.rope_scale, "rope_scale");
  require_positive(p.rope_theta, "rope_theta");
  require(p.pos_encoding_mode != PosEncodingMode::ROPE_LLAMA || p.head_dim_qk % 2 == 0, "head_dim_qk", p.head_dim_qk,
          "must be even with ROPE_LLAMA, which rotates pairs of features");
}

void validate(const AttentionProblem& problem) {
  const AttentionParams& p = problem.params;
  validate(p);
  problem.has_block_table() ? validate_blocks(problem) : validate_page_lists(problem);

  require(is_attention_dtype(problem.q.dtype), "q dtype", dtype_name(problem.q.dtype), "must be f32, f16 or bf16");
  require(problem.kv.dtype == problem.q.dtype || is_fp8(problem.kv.dtype), "kv cache dtype", dtype_name(problem.kv.dtype),
          "must be that of q, or f8_e4m3 or f8_e5m2");
  validate(problem.scales, p.num_kv_heads);
  require_positive(p.sm_scale * problem.scales.k, "sm_scale * k_scale");
  validate_on_host(problem.scales);
  validate_qo_indptr(problem.qo_indptr, problem.batch());
  validate_rows(problem.q, q_rule(problem));
  for (std::int32_t b = 0; b < problem.batch(); ++b) {  // a plan numbers qo_len * group_size packed rows with int32
    const std::int64_t rows = std::int64_t{problem.qo_len(b)} * p.group_size();
    require(rows <= int32_max, "qo_len * group_size", rows, "must be at most 2^31 - 1", b);
  }
  validate_mask(problem);
  validate_sinks(problem);
}

void validate(const AttentionProblem& problem, const AttentionOutput& output) {
  validate(problem);
  validate_output(output, problem.q.shape[0], problem.params);
}

}  // namespace flashladder
