// Keys and values that lie token by token, without pages, as a cache with pages of one token: token n is page n.
#pragma once

#include "core/kv_cache.hpp"
#include "core/tensor.hpp"

namespace flashladder::api {

// k [tokens, num_kv_heads, head_dim_qk], v [tokens, num_kv_heads, head_dim_vo] (NHD), or [num_kv_heads, tokens, ...] (HND);
// dense along head_dim, strides of tokens and heads are free. To be read only. InputError if they contradict each other.
PagedKvCache token_cache(const ConstTensor& k, const ConstTensor& v, KvLayout layout);

}  // namespace flashladder::api
