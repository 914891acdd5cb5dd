// The pages of K and V, as a kernel is given them that reads or writes a paged cache (core/kv_cache.hpp). Where a request's
// pages begin in the list is said beside it, by a plan's items or by indptr.
#pragma once

#include <cstdint>

#include "core/kv_cache.hpp"

namespace flashladder::gpu {

struct KvPages {
  void* k = nullptr;  // slot (page, entry) of KV head h begins at element k_strides.offset(slot, h); attention only reads it
  void* v = nullptr;
  KvStrides k_strides, v_strides;
  PageList pages;                   // of all requests
  const float* k_scales = nullptr;  // [num_kv_heads] what a stored k is multiplied by, or nullptr: no scales per head

  FL_HD constexpr float k_scale_of(std::int32_t kv_head) const { return k_scales == nullptr ? 1.0f : k_scales[kv_head]; }
  bool identity() const { return pages.indices == nullptr; }  // position n of the list is page n of the pool
};

inline KvPages kv_pages(const PagedKvCache& cache, const std::int32_t* indices) {
  return {cache.k, cache.v, cache.k_strides, cache.v_strides, {indices, cache.page_size, cache.num_pages}};
}

}  // namespace flashladder::gpu
