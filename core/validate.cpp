// The rules one by one: params, page table, page ids, cache, queries, mask, sinks, output.
#include "core/validate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "core/error.hpp"

namespace flashladder {
namespace {

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();
// Far above any model's, and low enough that heads * head_dim stays a 32-bit number.
constexpr std::int32_t max_heads = 1 << 14, max_head_dim = 1 << 14;

[[noreturn]] void refuse(const std::string& argument, std::int64_t value, const std::string& rule, int request = -1) {
  throw InputError(argument, std::to_string(value), rule, request);
}

std::string at(const char* name, std::size_t i) { return std::string(name) + "[" + std::to_string(i) + "]"; }

void require_size(std::int32_t value, std::int32_t limit, const char* argument) {
  if (value < 1 || value > limit) refuse(argument, value, "must be 1 .. " + std::to_string(limit));
}

void require_equal(std::int64_t value, std::int64_t expected, const std::string& argument, const char* of_what) {
  if (value != expected) refuse(argument, value, std::string("must be ") + of_what + " (" + std::to_string(expected) + ")");
}

void require_positive(float value, const char* argument) {
  require(std::isfinite(value) && value > 0, argument, value, "must be finite and greater than 0");
}

void require_data(const void* data, std::int64_t size, const char* argument) {
  require(data != nullptr || size == 0, argument, "null", "must point to data, since its size is not 0");
}

template <class T>
void require_data(std::span<T> values, const char* argument) {
  require_data(values.data(), static_cast<std::int64_t>(values.size()), argument);
}

// Names of arguments are put together only when they are needed: plans are made between two kernels.
void validate_indptr(std::span<const std::int32_t> indptr, std::int64_t batch, const char* name) {
  if (static_cast<std::int64_t>(indptr.size()) != batch + 1) {
    require_equal(static_cast<std::int64_t>(indptr.size()), batch + 1, std::string(name) + " size",
                  "batch + 1, batch being the size of paged_kv_last_page_len");
  }
  require_data(indptr, name);
  if (indptr[0] != 0) require_equal(indptr[0], 0, at(name, 0), "the start");
  for (std::size_t r = 0; r + 1 < indptr.size(); ++r) {
    if (indptr[r + 1] < indptr[r]) {
      refuse(at(name, r + 1), indptr[r + 1], "must not be less than the entry before it (" + std::to_string(indptr[r]) + ")",
             static_cast<int>(r));
    }
  }
}

void validate_cache(const PagedKvCache& kv, const AttentionParams& p, bool has_pages) {
  require(kv.num_pages >= 0, "num_pages", kv.num_pages, "must not be negative");
  require_equal(kv.num_kv_heads, p.num_kv_heads, "kv cache num_kv_heads", "that of the params");
  require_equal(kv.head_dim_qk, p.head_dim_qk, "k cache head_dim", "head_dim_qk");
  require_equal(kv.head_dim_vo, p.head_dim_vo, "v cache head_dim", "head_dim_vo");
  require_data(kv.k, has_pages, "k cache");
  require_data(kv.v, has_pages, "v cache");
}

std::string dtype_name(DType t) { return t <= DType::u8 ? name_of(t) : std::to_string(static_cast<int>(t)); }

// q and o: [nnz_qo, num_qo_heads, head_dim], dense along head_dim.
void validate_rows(const Tensor& t, std::int64_t nnz_qo, std::int32_t heads, std::int32_t head_dim, const std::string& name,
                   const char* head_dim_name) {
  require_equal(t.shape[0], nnz_qo, name + " shape[0]", "nnz_qo");
  require_equal(t.shape[1], heads, name + " shape[1]", "num_qo_heads");
  require_equal(t.shape[2], head_dim, name + " shape[2]", head_dim_name);
  if (t.shape[2] > 1) require_equal(t.strides[2], 1, name + " stride[2]", "dense along head_dim");
  require_data(t.data, t.size(), name.c_str());
}

// No two rows of an output may share memory: the inner one of the two row strides steps over head_dim, the outer one over
// all that the inner one walks. By division, because the product of a lying stride would overflow.
void require_disjoint_rows(const Tensor& t, const std::string& name) {
  const auto refuse_stride = [&](int dim) {
    refuse(name + " stride[" + std::to_string(dim) + "]", t.strides[dim], "must not let rows overlap");
  };
  const int outer = t.strides[0] >= t.strides[1] ? 0 : 1, inner = 1 - outer;
  if (t.shape[inner] > 1 && t.strides[inner] < t.shape[2]) refuse_stride(inner);
  if (t.shape[outer] > 1 && t.strides[outer] < t.shape[2]) refuse_stride(outer);
  if (t.shape[outer] > 1 && t.shape[inner] > 1 &&
      (t.strides[outer] - t.shape[2]) / t.strides[inner] < t.shape[inner] - 1) {
    refuse_stride(outer);
  }
}

// The table, the cache, and each page id against the cache.
void validate_pages(const AttentionProblem& problem) {
  const AttentionParams& p = problem.params;
  const std::int32_t page_size = problem.kv.page_size, num_pages = problem.kv.num_pages;
  if (!problem.has_block_table()) {
    validate_page_table(problem.paged_kv_indptr, problem.paged_kv_indices, problem.paged_kv_last_page_len, page_size);
    validate_cache(problem.kv, p, problem.paged_kv_indptr.back() > 0);
    return validate_page_ids(problem.paged_kv_indptr, problem.paged_kv_indices, num_pages);
  }
  for (const auto& [list, name] : {std::pair{problem.paged_kv_indptr, "paged_kv_indptr size"},
                                   std::pair{problem.paged_kv_indices, "paged_kv_indices size"},
                                   std::pair{problem.paged_kv_last_page_len, "paged_kv_last_page_len size"}}) {
    require(list.empty(), name, list.size(), "must be 0, since block_tables and seq_lens are given");
  }
  validate_block_table(static_cast<std::int64_t>(problem.block_tables.size()), problem.seq_lens, page_size);
  require_data(problem.block_tables, "block_tables");
  const bool has_pages = std::ranges::any_of(problem.seq_lens, [](std::int32_t n) { return n > 0; });
  validate_cache(problem.kv, p, has_pages);
  validate_block_ids(problem.block_tables, problem.seq_lens, page_size, num_pages);
}

void validate_mask(const AttentionProblem& problem) {
  const auto size = static_cast<std::int64_t>(problem.custom_mask.size());
  if (problem.params.mask != MaskMode::custom) {
    require(size == 0, "custom_mask size", size, "must be 0, since mask is not custom (a custom mask replaces causal)");
    return;
  }
  // At most (2^31 - 1)^2, since the qo_lens add up to an int32: no overflow.
  require_equal(size, mask_offsets(problem).back(), "custom_mask size", "the sum of qo_len * kv_len, since mask is custom");
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
    require(!std::isnan(sink) && sink < std::numeric_limits<float>::infinity(), at("sinks", h).c_str(), sink,
            "must be a number or -inf");
  }
}

void validate_output(const AttentionOutput& output, std::int64_t nnz_qo, const AttentionParams& p) {
  require(output.o.rank == 3, "o rank", output.o.rank, "must be 3: [nnz_qo, num_qo_heads, head_dim_vo]");
  require(output.o.dtype == DType::f32, "o dtype", dtype_name(output.o.dtype), "must be f32");
  validate_rows(output.o, nnz_qo, p.num_qo_heads, p.head_dim_vo, "o", "head_dim_vo");
  require_disjoint_rows(output.o, "o");
  if (output.lse_log2.empty()) return;
  require_equal(static_cast<std::int64_t>(output.lse_log2.size()), nnz_qo * p.num_qo_heads, "lse_log2 size",
                "nnz_qo * num_qo_heads, or 0 if not wanted");
  require_data(output.lse_log2, "lse_log2");
}

}  // namespace

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

void validate_page_counts(std::span<const std::int32_t> paged_kv_indptr,
                          std::span<const std::int32_t> paged_kv_last_page_len, std::int32_t page_size) {
  require(page_size >= 1, "page_size", page_size, "must be at least 1");
  const auto batch = static_cast<std::int64_t>(paged_kv_last_page_len.size());
  require(batch < int32_max, "batch", batch, "must be less than 2^31 - 1");
  validate_indptr(paged_kv_indptr, batch, "paged_kv_indptr");
  require_data(paged_kv_last_page_len, "paged_kv_last_page_len");
  for (std::int32_t r = 0; r < batch; ++r) {
    const std::int64_t pages = paged_kv_indptr[r + 1] - paged_kv_indptr[r];
    const std::int32_t last = paged_kv_last_page_len[r];
    if (pages == 0 && last != 0) {
      refuse(at("paged_kv_last_page_len", r), last, "must be 0 for a request without pages", r);
    }
    if (pages > 0 && (last < 1 || last > page_size)) {
      refuse(at("paged_kv_last_page_len", r), last, "must be 1 .. page_size (" + std::to_string(page_size) + ")", r);
    }
    const std::int64_t tokens = pages == 0 ? 0 : (pages - 1) * page_size + last;
    require(tokens <= int32_max, "kv_len", tokens, "must be at most 2^31 - 1", r);
  }
}

void validate_page_table(std::span<const std::int32_t> paged_kv_indptr, std::span<const std::int32_t> paged_kv_indices,
                         std::span<const std::int32_t> paged_kv_last_page_len, std::int32_t page_size) {
  validate_page_counts(paged_kv_indptr, paged_kv_last_page_len, page_size);
  require_equal(static_cast<std::int64_t>(paged_kv_indices.size()), paged_kv_indptr.back(), "paged_kv_indices size",
                "the last entry of paged_kv_indptr");
  require_data(paged_kv_indices, "paged_kv_indices");
}

void validate_page_ids(std::span<const std::int32_t> paged_kv_indptr, std::span<const std::int32_t> paged_kv_indices,
                       std::int32_t num_pages) {
  for (std::size_t i = 0; i < paged_kv_indices.size(); ++i) {
    const std::int32_t page = paged_kv_indices[i];
    if (page >= 0 && page < num_pages) continue;
    const auto next = std::upper_bound(paged_kv_indptr.begin(), paged_kv_indptr.end(), static_cast<std::int64_t>(i));
    refuse(at("paged_kv_indices", i), page, "must be a page of the pool, 0 .. " + std::to_string(num_pages - 1),
           static_cast<int>(next - paged_kv_indptr.begin()) - 1);
  }
}

void validate_block_table(std::int64_t block_entries, std::span<const std::int32_t> seq_lens, std::int32_t page_size) {
  require(page_size >= 1, "page_size", page_size, "must be at least 1");
  const auto batch = static_cast<std::int64_t>(seq_lens.size());
  require(batch < int32_max, "batch", batch, "must be less than 2^31 - 1");
  require_data(seq_lens, "seq_lens");
  require(block_entries <= int32_max, "block_tables size", block_entries, "must be at most 2^31 - 1");
  const bool rows_alike = batch == 0 ? block_entries == 0 : block_entries % batch == 0;
  if (!rows_alike) {
    refuse("block_tables size", block_entries,
           "must be batch * max_pages, batch being the size of seq_lens (" + std::to_string(batch) + ")");
  }
  const std::int64_t max_pages = batch == 0 ? 0 : block_entries / batch;
  for (std::int32_t r = 0; r < batch; ++r) {
    if (seq_lens[r] < 0) refuse(at("seq_lens", r), seq_lens[r], "must be 0 or more", r);
    if (pages_for(seq_lens[r], page_size) > max_pages) {
      refuse(at("seq_lens", r), seq_lens[r],
             "must fit in a row of block_tables: max_pages (" + std::to_string(max_pages) + ") of page_size (" +
                 std::to_string(page_size) + ")",
             r);
    }
  }
}

void validate_block_ids(std::span<const std::int32_t> block_tables, std::span<const std::int32_t> seq_lens,
                        std::int32_t page_size, std::int32_t num_pages) {
  if (seq_lens.empty()) return;
  const std::size_t max_pages = block_tables.size() / seq_lens.size();
  for (std::size_t r = 0; r < seq_lens.size(); ++r) {
    for (std::int32_t i = 0; i < pages_for(seq_lens[r], page_size); ++i) {
      const std::int32_t page = block_tables[r * max_pages + static_cast<std::size_t>(i)];
      if (page >= 0 && page < num_pages) continue;
      refuse("block_tables[" + std::to_string(r) + ", " + std::to_string(i) + "]", page,
             "must be a page of the pool, 0 .. " + std::to_string(num_pages - 1), static_cast<int>(r));
    }
  }
}

void validate_qo_indptr(std::span<const std::int32_t> qo_indptr, std::int32_t batch, std::int64_t nnz_qo) {
  validate_indptr(qo_indptr, batch, "qo_indptr");
  require_equal(qo_indptr.back(), nnz_qo, at("qo_indptr", qo_indptr.size() - 1), "the number of rows of q");
}

void validate(const AttentionProblem& problem) {
  const AttentionParams& p = problem.params;
  validate(p);
  validate_pages(problem);

  require(problem.q.rank == 3, "q rank", problem.q.rank, "must be 3: [nnz_qo, num_qo_heads, head_dim_qk]");
  require(is_attention_dtype(problem.q.dtype), "q dtype", dtype_name(problem.q.dtype), "must be f32, f16 or bf16");
  require(problem.kv.dtype == problem.q.dtype, "kv cache dtype", dtype_name(problem.kv.dtype), "must be that of q");
  const std::int64_t nnz_qo = problem.q.shape[0];
  validate_qo_indptr(problem.qo_indptr, problem.batch(), nnz_qo);
  validate_rows(problem.q, nnz_qo, p.num_qo_heads, p.head_dim_qk, "q", "head_dim_qk");
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
