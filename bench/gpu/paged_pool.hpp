// A paged KV cache on the GPU without a case of the ladder around it: NHD, one tensor, 8 heads, head_dim 128, pages of 16,
// f16, shuffled. For ops that write into it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/kv_cache.hpp"
#include "core/op_checks.hpp"
#include "gpu/device_buffer.hpp"
#include "ladder/cases/case.hpp"

namespace flashladder::bench {

class PagedPool {
 public:
  static constexpr std::int32_t page_size = 16, num_kv_heads = 8, head_dim = 128, width = num_kv_heads * head_dim;

  // places: caches of random numbers, all with the one page table.
  PagedPool(std::vector<std::int32_t> kv_lens, std::int32_t places, std::uint64_t seed);

  PagedKvCache cache(std::int32_t place) const;  // device pointers
  std::byte* bytes(std::int32_t place) const { return kv_.data() + place * rows() * width * 2; }
  std::int64_t rows() const { return std::int64_t{2} * num_pages() * page_size; }  // of `width` numbers, in a cache
  // Which of them is the key (0) or value (1) of a token.
  std::int64_t row_of(std::int32_t request, std::int32_t token, int which) const;

  void download(std::int32_t place, ladder::Case& into) const;  // cache and page table
  PagedKvTable device_table() const;
  std::int32_t num_pages() const { return indptr_.back(); }

 private:
  std::vector<std::int32_t> kv_lens_, indptr_, indices_, last_page_len_;
  gpu::DeviceBuffer device_indptr_, device_indices_, device_last_page_len_, kv_;
};

gpu::DeviceBuffer to_device(std::span<const std::int32_t> host);
std::span<const std::int32_t> span_of(const gpu::DeviceBuffer& device);

}  // namespace flashladder::bench
