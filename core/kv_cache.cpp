#include "core/kv_cache.hpp"

#include <limits>

#include "core/error.hpp"
#include "core/refuse.hpp"

namespace flashladder {
namespace {

std::int32_t narrow(std::int64_t n, const char* what) {
  require(n >= 1 && n <= std::numeric_limits<std::int32_t>::max(), what, n, "must be 1 .. 2^31 - 1");
  return static_cast<std::int32_t>(n);
}

// Dimensions of a cache tensor after the page (and K/V) dimension: token, head and feature, wherever the layout puts them.
struct Dims {
  int entry, head, feature;
};
Dims dims(const Tensor& t, KvLayout layout) {
  const int first = t.rank - 3;
  return layout == KvLayout::NHD ? Dims{first, first + 1, first + 2} : Dims{first + 1, first, first + 2};
}

KvStrides strides_of(const Tensor& t, KvLayout layout, const char* what) {
  const Dims d = dims(t, layout);
  require(t.strides[d.feature] == 1 || t.shape[d.feature] == 1, what, t.strides[d.feature], "must be dense along head_dim");
  return {t.strides[0], t.strides[d.entry], t.strides[d.head]};
}

}  // namespace

PagedKvCache paged_kv_cache(const Tensor& k, const Tensor& v, KvLayout layout) {
  require(k.rank == 4, "k_cache rank", k.rank,
          "must be 4: [pages, page_size, heads, dim] (NHD) or [pages, heads, page_size, dim] (HND)");
  require(v.rank == 4, "v_cache rank", v.rank,
          "must be 4: [pages, page_size, heads, dim] (NHD) or [pages, heads, page_size, dim] (HND)");
  require(is_cache_dtype(k.dtype), "k_cache dtype", dtype_name(k.dtype), cache_dtype_rule);
  require(is_cache_dtype(v.dtype), "v_cache dtype", dtype_name(v.dtype), cache_dtype_rule);
  require(k.dtype == v.dtype, "v_cache dtype", name_of(v.dtype), "must be that of k_cache");
  for (int i = 0; i < 3; ++i)
    require(k.shape[i] == v.shape[i], "v_cache shape", v.shape[i], "must equal k_cache's, but for head_dim");
  const Dims d = dims(k, layout);
  return {.k = k.data, .v = v.data, .dtype = k.dtype,
          .k_strides = strides_of(k, layout, "k_cache stride"), .v_strides = strides_of(v, layout, "v_cache stride"),
          .num_pages = narrow(k.shape[0], "pages"), .page_size = narrow(k.shape[d.entry], "page_size"),
          .num_kv_heads = narrow(k.shape[d.head], "num_kv_heads"),
          .head_dim_qk = narrow(k.shape[3], "head_dim_qk"), .head_dim_vo = narrow(v.shape[3], "head_dim_vo")};
}

PagedKvCache paged_kv_cache(const Tensor& kv, KvLayout layout) {
  require(kv.rank == 5, "kv_cache rank", kv.rank,
          "must be 5: [pages, 2, page_size, heads, dim] (NHD) or [pages, 2, heads, page_size, dim] (HND)");
  require(is_cache_dtype(kv.dtype), "kv_cache dtype", dtype_name(kv.dtype), cache_dtype_rule);
  require(kv.shape[1] == 2, "kv_cache shape[1]", kv.shape[1], "must be 2: K and V");
  Tensor half = kv;  // drop dimension 1
  half.rank = 4;
  for (int i = 1; i < 4; ++i) {
    half.shape[i] = kv.shape[i + 1];
    half.strides[i] = kv.strides[i + 1];
  }
  Tensor v = half;
  v.data = static_cast<std::byte*>(kv.data) + kv.strides[1] * static_cast<std::int64_t>(size_of(kv.dtype));
  return paged_kv_cache(half, v, layout);
}

}  // namespace flashladder
