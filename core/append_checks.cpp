// What an append asks of its tensors (op_checks.hpp): with RoPE or without, by requests or by slots.
#include <utility>

#include "core/checks.hpp"
#include "core/error.hpp"
#include "core/op_checks.hpp"
#include "core/validate.hpp"

namespace flashladder {
namespace {

using Indices = std::span<const std::int32_t>;
using Slots = std::span<const std::int64_t>;

constexpr const char* k_pool_name = "paged_kv_cache.k";
constexpr const char* v_pool_name = "paged_kv_cache.v";

Tensor pool(const PagedKvCache& c, void* data, const KvStrides& s, std::int32_t head_dim) {
  return {.data = data, .dtype = c.dtype, .rank = 4, .shape = {c.num_pages, c.page_size, c.num_kv_heads, head_dim},
          .strides = {s.page, s.entry, s.head, 1}};
}

Floats floats_of(const KvScales* scales) { return scales == nullptr ? Floats::wide : Floats::fp8_too; }

void check_cache(const PagedKvCache& c, Floats floats) {
  require(c.num_pages >= 0, "paged_kv_cache.num_pages", c.num_pages, "must not be negative");
  require(c.page_size >= 1, "paged_kv_cache.page_size", c.page_size, "must be at least 1");
  require(c.num_kv_heads >= 1, "paged_kv_cache.num_kv_heads", c.num_kv_heads, "must be at least 1");
  constexpr const char* form = "[num_pages, page_size, num_kv_heads, head_dim]";
  check_output(k_pool_name, k_pool(c), form, {any_size, any_size, any_size, any_size}, floats);
  check_output(v_pool_name, v_pool(c), form, {any_size, any_size, any_size, any_size}, floats);
  check_apart(v_pool_name, v_pool(c), k_pool_name, k_pool(c));
}

// Everything that an append reads, against one tensor that it writes.
void check_append_apart(const char* name, const Tensor& written, const ConstTensor& append_key,
                        const ConstTensor& append_value, Indices batch_indices, Indices positions,
                        const PagedKvTable& table) {
  check_apart(name, written, "append_key", append_key);
  check_apart(name, written, "append_value", append_value);
  check_apart(name, written, "batch_indices", batch_indices);
  check_apart(name, written, "positions", positions);
  check_apart(name, written, "paged_kv_indptr", table.paged_kv_indptr);
  check_apart(name, written, "paged_kv_indices", table.paged_kv_indices);
  check_apart(name, written, "paged_kv_last_page_len", table.paged_kv_last_page_len);
}
void check_append_apart(const char* name, const Tensor& written, const ConstTensor& append_key,
                        const ConstTensor& append_value, Slots slot_mapping) {
  check_apart(name, written, "append_key", append_key);
  check_apart(name, written, "append_value", append_value);
  check_apart(name, written, "slot_mapping", slot_mapping);
}

// Rows of the cache's dtype are copied bit by bit, and nothing scales them.
void check_no_scales(const KvScales& s) {
  constexpr const char* rule = "is for rows that are quantised to fp8: these have the cache's dtype and are copied";
  require(s.k == 1, "k_scale", s.k, rule);
  require(s.v == 1, "v_scale", s.v, rule);
  require(s.k_per_head.empty(), "k_scale_per_head size", s.k_per_head.size(), rule);
  require(s.v_per_head.empty(), "v_scale_per_head size", s.v_per_head.size(), rule);
}

// The new keys and values against the cache. Returns how many there are.
std::int64_t check_appended(const ConstTensor& append_key, const ConstTensor& append_value, const PagedKvCache& cache,
                            const KvScales* scales) {
  check_cache(cache, floats_of(scales));
  const std::int64_t heads = cache.num_kv_heads;
  const Floats floats = floats_of(scales);
  check_tensor("append_key", append_key, "[nnz, num_kv_heads, head_dim_qk]", {any_size, heads, cache.head_dim_qk}, floats);
  const std::int64_t nnz = append_key.shape[0];
  check_tensor("append_value", append_value, "[nnz, num_kv_heads, head_dim_vo]", {nnz, heads, cache.head_dim_vo}, floats);
  if (scales != nullptr && is_fp8(cache.dtype) && !is_fp8(append_key.dtype)) {
    check_dtype("append_value", append_value, append_key.dtype, "must have the dtype of append_key");
    validate(*scales, cache.num_kv_heads);
    for (const auto& [name, written] : {std::pair(k_pool_name, k_pool(cache)), std::pair(v_pool_name, v_pool(cache))}) {
      check_apart(name, written, "k_scale_per_head", scales->k_per_head);
      check_apart(name, written, "v_scale_per_head", scales->v_per_head);
    }
    return nnz;
  }
  check_dtype("append_key", append_key, cache.dtype, "must have the dtype of paged_kv_cache");
  check_dtype("append_value", append_value, cache.dtype, "must have the dtype of paged_kv_cache");
  if (scales != nullptr) check_no_scales(*scales);
  return nnz;
}

// What is rotated is wide, whatever the cache is.
void check_wide_rows(const ConstTensor& append_key) {
  if (is_fp8(append_key.dtype)) check_dtype("append_key", append_key, DType::f32, "must be f32, f16 or bf16, as q is");
}

// q, which is rotated beside them.
void check_appended_q(const Tensor& q, const ConstTensor& append_key, const PagedKvCache& cache) {
  check_output("q", q, "[nnz, num_qo_heads, head_dim_qk]", {append_key.shape[0], any_size, cache.head_dim_qk});
  check_dtype("q", q, append_key.dtype, is_fp8(cache.dtype) ? "must have the dtype of append_key"
                                                             : "must have the dtype of paged_kv_cache");
  check_apart("q", q, k_pool_name, k_pool(cache));
  check_apart("q", q, v_pool_name, v_pool(cache));
}

}  // namespace

Tensor k_pool(const PagedKvCache& c) { return pool(c, c.k, c.k_strides, c.head_dim_qk); }
Tensor v_pool(const PagedKvCache& c) { return pool(c, c.v, c.v_strides, c.head_dim_vo); }

void check_append(const ConstTensor& append_key, const ConstTensor& append_value, Indices batch_indices, Indices positions,
                  const PagedKvCache& paged_kv_cache, const PagedKvTable& table, const KvScales* scales) {
  const PagedKvCache& cache = paged_kv_cache;
  const std::int64_t nnz = check_appended(append_key, append_value, cache, scales);
  check_span("batch_indices", batch_indices, nnz);
  check_span("positions", positions, nnz);
  check_append_apart(k_pool_name, k_pool(cache), append_key, append_value, batch_indices, positions, table);
  check_append_apart(v_pool_name, v_pool(cache), append_key, append_value, batch_indices, positions, table);
}

void check_append(const ConstTensor& append_key, const ConstTensor& append_value, Slots slot_mapping,
                  const PagedKvCache& paged_kv_cache, const KvScales* scales) {
  check_span("slot_mapping", slot_mapping, check_appended(append_key, append_value, paged_kv_cache, scales));
  check_append_apart(k_pool_name, k_pool(paged_kv_cache), append_key, append_value, slot_mapping);
  check_append_apart(v_pool_name, v_pool(paged_kv_cache), append_key, append_value, slot_mapping);
}

void check_rope_append(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                       Indices batch_indices, Indices positions, const PagedKvCache& paged_kv_cache,
                       const PagedKvTable& table, const KvScales* scales) {
  const PagedKvCache& cache = paged_kv_cache;
  check_append(append_key, append_value, batch_indices, positions, cache, table, scales);
  check_wide_rows(append_key);
  check_appended_q(q, append_key, cache);
  check_append_apart("q", q, append_key, append_value, batch_indices, positions, table);
}

void check_rope_append(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value, Indices positions,
                       Slots slot_mapping, const PagedKvCache& paged_kv_cache, const KvScales* scales) {
  check_append(append_key, append_value, slot_mapping, paged_kv_cache, scales);
  check_wide_rows(append_key);
  check_appended_q(q, append_key, paged_kv_cache);
  check_append_apart("q", q, append_key, append_value, slot_mapping);
  check_span("positions", positions, append_key.shape[0]);
  for (const Written& w : {Written{"q", q}, {k_pool_name, k_pool(paged_kv_cache)}, {v_pool_name, v_pool(paged_kv_cache)}}) {
    check_apart(w.name, w.tensor, "positions", positions);
  }
}

}  // namespace flashladder
