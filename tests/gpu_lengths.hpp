// Lengths and block tables of a case on the GPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "core/page_table.hpp"
#include "gpu/device_buffer.hpp"
#include "ladder/cases/case.hpp"

namespace flashladder::test {

template <class T>
gpu::DeviceBuffer on_gpu(const std::vector<T>& values) {
  return gpu::DeviceBuffer(values.data(), values.size() * sizeof(T));
}
inline std::span<const std::int32_t> ints(const gpu::DeviceBuffer& buffer) {
  return {buffer.as<std::int32_t>(), buffer.size() / sizeof(std::int32_t)};
}

// Of a case: its page ids as a dense table. What is beyond a length is no page at all.
struct BlockTable {
  std::int32_t max_pages = 1;
  std::vector<std::int32_t> entries;

  explicit BlockTable(const ladder::Case& c) {
    for (const std::int32_t len : c.spec.kv_lens) max_pages = std::max(max_pages, pages_for(len, c.spec.page_size));
    entries.assign(c.spec.kv_lens.size() * static_cast<std::size_t>(max_pages), -1);
    for (std::size_t b = 0; b < c.spec.kv_lens.size(); ++b) {
      std::copy(c.paged_kv_indices.begin() + c.paged_kv_indptr[b], c.paged_kv_indices.begin() + c.paged_kv_indptr[b + 1],
                entries.begin() + static_cast<std::ptrdiff_t>(b) * max_pages);
    }
  }
};

}  // namespace flashladder::test
