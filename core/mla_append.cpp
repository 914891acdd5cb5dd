#include "core/mla_append.hpp"

#include <cstddef>

#include "core/checks.hpp"
#include "core/error.hpp"

namespace flashladder {
namespace {

constexpr const char* ckv_name = "paged_mla_cache.ckv";
constexpr const char* kpe_name = "paged_mla_cache.kpe";

Tensor pool(const PagedMlaCache& c, void* data, const MlaStrides& s, std::int32_t head_dim) {
  return {.data = data, .dtype = c.dtype, .rank = 3, .shape = {c.num_pages, c.page_size, head_dim},
          .strides = {s.page, s.entry, 1}};
}

// Rows in which kpe follows ckv: they are apart, whatever the strides, where these rows are.
bool is_one_tensor(const PagedMlaCache& c) {
  const auto bytes = static_cast<std::size_t>(c.head_dim_ckv) * size_of(c.dtype);
  return c.ckv != nullptr && c.kpe == static_cast<std::byte*>(c.ckv) + bytes && c.ckv_strides.page == c.kpe_strides.page &&
         c.ckv_strides.entry == c.kpe_strides.entry;
}

// Rows of an fp8 cache may be wide, and are quantised; all others have the cache's dtype, are copied, and nothing scales them.
void check_rows(const ConstTensor& append_ckv, const ConstTensor& append_kpe, const PagedMlaCache& c,
                const MlaScales& scales) {
  if (is_fp8(c.dtype) && !is_fp8(append_ckv.dtype)) {
    check_dtype("append_kpe", append_kpe, append_ckv.dtype, "must have the dtype of append_ckv");
    return validate(scales, 1);
  }
  check_dtype("append_ckv", append_ckv, c.dtype, "must have the dtype of paged_mla_cache");
  check_dtype("append_kpe", append_kpe, c.dtype, "must have the dtype of paged_mla_cache");
  constexpr const char* rule = "is for rows that are quantised to fp8: these have the cache's dtype and are copied";
  require(scales.k == 1, "ckv_scale", scales.k, rule);
  require(scales.kpe == 1, "kpe_scale", scales.kpe, rule);
}

}  // namespace

PagedKvCache as_kv_cache(const PagedMlaCache& c) {
  return {.k = c.ckv, .v = c.kpe, .dtype = c.dtype,
          .k_strides = {c.ckv_strides.page, c.ckv_strides.entry, c.head_dim_ckv},
          .v_strides = {c.kpe_strides.page, c.kpe_strides.entry, c.head_dim_kpe},
          .num_pages = c.num_pages, .page_size = c.page_size, .num_kv_heads = 1,
          .head_dim_qk = c.head_dim_ckv, .head_dim_vo = c.head_dim_kpe};
}

void check_append_mla(const ConstTensor& append_ckv, const ConstTensor& append_kpe,
                      std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                      const PagedMlaCache& c, const PagedKvTable& table, const MlaScales& scales) {
  require(c.num_pages >= 0, "paged_mla_cache.num_pages", c.num_pages, "must not be negative");
  require(c.page_size >= 1, "paged_mla_cache.page_size", c.page_size, "must be at least 1");
  const Tensor ckv = pool(c, c.ckv, c.ckv_strides, c.head_dim_ckv), kpe = pool(c, c.kpe, c.kpe_strides, c.head_dim_kpe);
  check_output(ckv_name, ckv, "[num_pages, page_size, head_dim_ckv]", {any_size, any_size, any_size},
               Floats::fp8_too);
  check_output(kpe_name, kpe, "[num_pages, page_size, head_dim_kpe]", {any_size, any_size, any_size}, Floats::fp8_too);
  if (is_one_tensor(c)) {
    check_output("paged_mla_cache", pool(c, c.ckv, c.ckv_strides, c.head_dim_ckv + c.head_dim_kpe),
                 "[num_pages, page_size, head_dim_ckv + head_dim_kpe]", {any_size, any_size, any_size}, Floats::fp8_too);
  } else {
    check_apart(kpe_name, kpe, ckv_name, ckv);
  }
  check_tensor("append_ckv", append_ckv, "[nnz, head_dim_ckv]", {any_size, c.head_dim_ckv}, Floats::fp8_too);
  const std::int64_t nnz = append_ckv.shape[0];
  check_tensor("append_kpe", append_kpe, "[nnz, head_dim_kpe]", {nnz, c.head_dim_kpe}, Floats::fp8_too);
  check_rows(append_ckv, append_kpe, c, scales);
  check_span("batch_indices", batch_indices, nnz);
  check_span("positions", positions, nnz);
  for (const Written& w : {Written{ckv_name, ckv}, {kpe_name, kpe}}) {
    check_apart(w.name, w.tensor, "append_ckv", append_ckv);
    check_apart(w.name, w.tensor, "append_kpe", append_kpe);
    check_apart(w.name, w.tensor, "batch_indices", batch_indices);
    check_apart(w.name, w.tensor, "positions", positions);
    check_apart(w.name, w.tensor, "paged_kv_indptr", table.paged_kv_indptr);
    check_apart(w.name, w.tensor, "paged_kv_indices", table.paged_kv_indices);
    check_apart(w.name, w.tensor, "paged_kv_last_page_len", table.paged_kv_last_page_len);
  }
}

}  // namespace flashladder
