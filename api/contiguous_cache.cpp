#include "api/contiguous_cache.hpp"

#include <limits>

#include "core/error.hpp"

namespace flashladder::api {
namespace {

constexpr const char* form = "must be 3: [tokens, num_kv_heads, head_dim] (NHD) or [num_kv_heads, tokens, head_dim] (HND)";

std::int32_t narrow(std::int64_t n, const char* argument) {
  require(n >= 0 && n <= std::numeric_limits<std::int32_t>::max(), argument, n, "must be 0 .. 2^31 - 1");
  return static_cast<std::int32_t>(n);
}

}  // namespace

PagedKvCache token_cache(const ConstTensor& k, const ConstTensor& v, KvLayout layout) {
  require(k.rank == 3, "k rank", k.rank, form);
  require(v.rank == 3, "v rank", v.rank, form);
  require(v.shape[0] == k.shape[0], "v shape[0]", v.shape[0], "must be that of k");
  require(v.shape[1] == k.shape[1], "v shape[1]", v.shape[1], "must be that of k");
  require(k.dtype == v.dtype, "v dtype", name_of(v.dtype), "must be that of k");
  require(k.strides[2] == 1 || k.shape[2] <= 1, "k stride[2]", k.strides[2], "must be 1: dense along head_dim");
  require(v.strides[2] == 1 || v.shape[2] <= 1, "v stride[2]", v.strides[2], "must be 1: dense along head_dim");
  const int token = layout == KvLayout::NHD ? 0 : 1, head = 1 - token;
  return {.k = const_cast<void*>(k.data), .v = const_cast<void*>(v.data), .dtype = k.dtype,
          .k_strides = {k.strides[token], 0, k.strides[head]}, .v_strides = {v.strides[token], 0, v.strides[head]},
          .num_pages = narrow(k.shape[token], "tokens of k"), .page_size = 1,
          .num_kv_heads = narrow(k.shape[head], "num_kv_heads"),
          .head_dim_qk = narrow(k.shape[2], "head_dim_qk"), .head_dim_vo = narrow(v.shape[2], "head_dim_vo")};
}

}  // namespace flashladder::api
