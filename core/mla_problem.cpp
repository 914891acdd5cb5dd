#include "core/mla_problem.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>

#include "core/error.hpp"
#include "core/refuse.hpp"
#include "core/validate.hpp"

namespace flashladder {
namespace {

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();
constexpr std::int32_t max_heads = 1 << 14, max_head_dim = 1 << 14;  // as attention's (validate.cpp)

std::int32_t narrow(std::int64_t n, std::int64_t least, const char* what) {
  if (n < least || n > int32_max) refuse(what, n, "must be " + std::to_string(least) + " .. 2^31 - 1");
  return static_cast<std::int32_t>(n);
}

void require_cache_dtype(DType t, const char* argument) {
  require(is_cache_dtype(t), argument, dtype_name(t), cache_dtype_rule);
}

MlaStrides strides_of(const Tensor& t, const char* argument) {
  require(t.strides[2] == 1 || t.shape[2] <= 1, argument, t.strides[2], "must be 1: dense along its features");
  return {t.strides[0], t.strides[1]};
}

RowsRule rule_of(const MlaProblem& problem, const char* name, std::int32_t head_dim, const char* head_dim_is) {
  return {.name = name, .nnz_qo = problem.qo_indptr.back(), .nnz_qo_is = "the last entry of qo_indptr",
          .num_qo_heads = problem.params.num_heads, .head_dim = head_dim, .head_dim_is = head_dim_is};
}

void validate_queries(const MlaProblem& problem) {
  const MlaParams& p = problem.params;
  for (const auto& [tensor, name] : {std::pair{&problem.q_nope, "q_nope dtype"}, {&problem.q_pe, "q_pe dtype"}}) {
    require(is_attention_dtype(tensor->dtype), name, dtype_name(tensor->dtype), "must be f32, f16 or bf16");
  }
  require(problem.q_pe.dtype == problem.q_nope.dtype, "q_pe dtype", dtype_name(problem.q_pe.dtype), "must be that of q_nope");
  validate_qo_indptr(problem.qo_indptr, problem.batch());
  validate_rows(problem.q_nope, rule_of(problem, "q_nope", p.head_dim_ckv, "head_dim_ckv"));
  validate_rows(problem.q_pe, rule_of(problem, "q_pe", p.head_dim_kpe, "head_dim_kpe"));
  for (std::int32_t b = 0; b < problem.batch(); ++b) {  // a plan numbers qo_len * num_heads packed rows with int32
    const std::int64_t rows = std::int64_t{problem.qo_len(b)} * p.num_heads;
    require(rows <= int32_max, "qo_len * num_heads", rows, "must be at most 2^31 - 1", b);
  }
}

void validate_pages(const MlaProblem& problem) {
  const PagedMlaCache& c = problem.cache;
  if (problem.frame().has_block_table()) {
    const bool lists = !problem.paged_kv_indptr.empty() || !problem.paged_kv_indices.empty() ||
                       !problem.paged_kv_last_page_len.empty();
    require(!lists, "paged_kv_indptr size", problem.paged_kv_indptr.size(),
            "must be 0, as that of all page lists, since block_tables and seq_lens are given");
    validate_block_table(static_cast<std::int64_t>(problem.block_tables.size()), problem.seq_lens, c.page_size);
    require_data(problem.block_tables, "block_tables");
    validate_block_ids(problem.block_tables, problem.seq_lens, c.page_size, c.num_pages);
  } else {
    validate_page_table(problem.paged_kv_indptr, problem.paged_kv_indices, problem.paged_kv_last_page_len, c.page_size);
    validate_page_ids(problem.paged_kv_indptr, problem.paged_kv_indices, c.num_pages);
  }
}

void validate_cache(const MlaProblem& problem) {
  const MlaParams& p = problem.params;
  const PagedMlaCache& c = problem.cache;
  require(c.num_pages >= 0, "num_pages", c.num_pages, "must not be negative");
  require_equal(c.head_dim_ckv, p.head_dim_ckv, "ckv cache head_dim", "head_dim_ckv");
  require_equal(c.head_dim_kpe, p.head_dim_kpe, "kpe cache head_dim", "head_dim_kpe");
  require_cache_dtype(c.dtype, "ckv cache dtype");
  require(c.dtype == problem.q_nope.dtype || is_fp8(c.dtype), "ckv cache dtype", name_of(c.dtype),
          "must be that of q_nope, or f8_e4m3 or f8_e5m2");
  bool has_tokens = false;
  for (std::int32_t b = 0; b < problem.batch(); ++b) has_tokens = has_tokens || problem.kv_len(b) > 0;
  require_data(c.ckv, has_tokens, "ckv cache");
  require_data(c.kpe, has_tokens && p.head_dim_kpe > 0, "kpe cache");
}

}  // namespace

PagedMlaCache paged_mla_cache(const Tensor& ckv, const Tensor& kpe) {
  require(ckv.rank == 3, "ckv_cache rank", ckv.rank, "must be 3: [pages, page_size, head_dim_ckv]");
  require(kpe.rank == 3, "kpe_cache rank", kpe.rank, "must be 3: [pages, page_size, head_dim_kpe]");
  require_cache_dtype(ckv.dtype, "ckv_cache dtype");
  require_cache_dtype(kpe.dtype, "kpe_cache dtype");
  require(ckv.dtype == kpe.dtype, "kpe_cache dtype", name_of(kpe.dtype), "must be that of ckv_cache");
  require_equal(kpe.shape[0], ckv.shape[0], "kpe_cache shape[0]", "the pages of ckv_cache");
  require_equal(kpe.shape[1], ckv.shape[1], "kpe_cache shape[1]", "the page_size of ckv_cache");
  return {.ckv = ckv.data, .kpe = kpe.data, .dtype = ckv.dtype,
          .ckv_strides = strides_of(ckv, "ckv_cache stride[2]"), .kpe_strides = strides_of(kpe, "kpe_cache stride[2]"),
          .num_pages = narrow(ckv.shape[0], 0, "pages"), .page_size = narrow(ckv.shape[1], 1, "page_size"),
          .head_dim_ckv = narrow(ckv.shape[2], 1, "head_dim_ckv"), .head_dim_kpe = narrow(kpe.shape[2], 0, "head_dim_kpe")};
}

PagedMlaCache paged_mla_cache(const Tensor& ckv_kpe, std::int32_t head_dim_ckv) {
  require(ckv_kpe.rank == 3, "ckv_kpe_cache rank", ckv_kpe.rank, "must be 3: [pages, page_size, head_dim_ckv + head_dim_kpe]");
  require(head_dim_ckv >= 1 && head_dim_ckv <= ckv_kpe.shape[2], "head_dim_ckv", head_dim_ckv,
          "must be 1 .. the features of ckv_kpe_cache");
  const MlaStrides strides = strides_of(ckv_kpe, "ckv_kpe_cache stride[2]");
  Tensor ckv = ckv_kpe, kpe = ckv_kpe;
  ckv.shape[2] = head_dim_ckv;
  kpe.shape[2] = ckv_kpe.shape[2] - head_dim_ckv;
  kpe.data = ckv_kpe.data == nullptr ? nullptr
                                     : static_cast<std::byte*>(ckv_kpe.data) + head_dim_ckv * size_of(ckv_kpe.dtype);
  PagedMlaCache cache = paged_mla_cache(ckv, kpe);
  cache.ckv_strides = cache.kpe_strides = strides;
  return cache;
}

void validate(const MlaParams& p) {
  const auto require_size = [](std::int32_t value, std::int32_t least, std::int32_t most, const char* argument) {
    if (value < least || value > most) {
      refuse(argument, value, "must be " + std::to_string(least) + " .. " + std::to_string(most));
    }
  };
  require_size(p.num_heads, 1, max_heads, "num_heads");
  require_size(p.head_dim_ckv, 1, max_head_dim, "head_dim_ckv");
  require_size(p.head_dim_kpe, 0, max_head_dim - p.head_dim_ckv, "head_dim_kpe");
  require(std::isfinite(p.sm_scale) && p.sm_scale > 0, "sm_scale", p.sm_scale,
          "must be given, finite and greater than 0: 1 / sqrt(features of a key before projections were absorbed), for "
          "DeepSeek's models 1 / sqrt(192) and not 1 / sqrt(576)");
  require(p.mask == MaskMode::none || p.mask == MaskMode::causal, "mask", static_cast<int>(p.mask),
          "must be none or causal: MLA takes no custom mask");
}

void validate(const MlaScales& scales, float sm_scale) {
  const auto require_positive = [](float value, const char* argument) {
    require(std::isfinite(value) && value > 0, argument, value, "must be finite and greater than 0");
  };
  require_positive(scales.k, "ckv_scale");
  require_positive(scales.kpe, "kpe_scale");
  require_positive(scales.v, "scale of values");
  require_positive(sm_scale * scales.k, "sm_scale * ckv_scale");
  require_positive(sm_scale * scales.kpe, "sm_scale * kpe_scale");
  require_positive(scales.kpe / scales.k, "kpe_scale / ckv_scale");
}

void validate(const MlaProblem& problem) {
  validate(problem.params);
  validate(problem.scales, problem.params.sm_scale);
  validate_pages(problem);
  validate_queries(problem);
  validate_cache(problem);
}

void validate(const MlaProblem& problem, const AttentionOutput& output) {
  validate(problem);
  require(output.o.dtype == DType::f32, "o dtype", dtype_name(output.o.dtype), "must be f32");
  validate_written_rows(output.o, rule_of(problem, "o", problem.params.head_dim_ckv, "head_dim_ckv"));
  validate_lse(output, problem.q_nope.shape[0] * problem.params.num_heads, "nnz_qo * num_heads, or 0 if not wanted");
}

}  // namespace flashladder
