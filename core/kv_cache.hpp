// From a slot (page, entry) and a KV head to an offset: layouts and strides of a paged KV cache.
//
//   NHD  [pages, page_size, num_kv_heads, head_dim]     a token's heads lie together
//   HND  [pages, num_kv_heads, page_size, head_dim]     a head's tokens lie together
//   one 5-D tensor holds both:  [pages, 2, ...as above],  K at index 0 and V at index 1 (one head_dim)
//   or two 4-D tensors, with independent strides and head dims.
// The innermost dimension is always dense.
#pragma once

#include <cstdint>

#include "core/host_device.hpp"
#include "core/page_table.hpp"
#include "core/tensor.hpp"

namespace flashladder {

enum class KvLayout : std::uint8_t { NHD, HND };
constexpr const char* name_of(KvLayout l) { return l == KvLayout::NHD ? "NHD" : "HND"; }

struct KvStrides {  // in elements, 64-bit: a pool may hold more than 2^31
  std::int64_t page = 0, entry = 0, head = 0;

  FL_HD constexpr std::int64_t offset(KvSlot slot, std::int32_t kv_head) const {
    return slot.page * page + slot.entry * entry + kv_head * head;
  }
};

struct PagedKvCache {
  void* k = nullptr;
  void* v = nullptr;
  DType dtype = DType::f32;
  KvStrides k_strides, v_strides;
  std::int32_t num_pages = 0, page_size = 1, num_kv_heads = 0;
  std::int32_t head_dim_qk = 0, head_dim_vo = 0;
};

// The cache over two 4-D tensors (see the top). Throws InputError if ranks, shapes or dtypes contradict each other.
PagedKvCache paged_kv_cache(const Tensor& k, const Tensor& v, KvLayout layout);
// The cache over one 5-D tensor.
PagedKvCache paged_kv_cache(const Tensor& kv, KvLayout layout);

}  // namespace flashladder
