#include "bench/gpu/paged_pool.hpp"

#include <numeric>
#include <utility>

#include "bench/gpu/device_rows.hpp"
#include "gpu/append/append.hpp"
#include "gpu/check.hpp"
#include "ladder/cases/drawn/random.hpp"

namespace flashladder::bench {
namespace {

std::vector<std::int32_t> page_indptr(const std::vector<std::int32_t>& kv_lens) {
  std::vector<std::int32_t> indptr{0};
  for (const std::int32_t len : kv_lens) indptr.push_back(indptr.back() + pages_for(len, PagedPool::page_size));
  return indptr;
}

std::vector<std::int32_t> shuffled(std::int32_t count, std::uint64_t seed) {
  std::vector<std::int32_t> pages(static_cast<std::size_t>(count));
  std::iota(pages.begin(), pages.end(), 0);
  ladder::Random random(seed);
  for (std::uint32_t i = 0; i < pages.size(); ++i) {
    std::swap(pages[i], pages[i + random.below(static_cast<std::uint32_t>(pages.size()) - i)]);
  }
  return pages;
}

std::vector<std::int32_t> last_page_lens(const std::vector<std::int32_t>& kv_lens) {
  std::vector<std::int32_t> lens;
  for (const std::int32_t len : kv_lens) lens.push_back(last_page_len_for(len, PagedPool::page_size));
  return lens;
}

}  // namespace

gpu::DeviceBuffer to_device(std::span<const std::int32_t> host) { return {host.data(), host.size_bytes()}; }

std::span<const std::int32_t> span_of(const gpu::DeviceBuffer& device) {
  return {device.as<const std::int32_t>(), device.size() / sizeof(std::int32_t)};
}

PagedPool::PagedPool(std::vector<std::int32_t> kv_lens, std::int32_t places, std::uint64_t seed)
    : kv_lens_(std::move(kv_lens)), indptr_(page_indptr(kv_lens_)), indices_(shuffled(indptr_.back(), seed)),
      last_page_len_(last_page_lens(kv_lens_)), device_indptr_(to_device(indptr_)), device_indices_(to_device(indices_)),
      device_last_page_len_(to_device(last_page_len_)), kv_(random_halves(rows() * width * places, seed + 1)) {}

PagedKvCache PagedPool::cache(std::int32_t place) const {
  return paged_kv_cache(contiguous(bytes(place), DType::f16, {num_pages(), 2, page_size, num_kv_heads, head_dim}),
                        KvLayout::NHD);
}

std::int64_t PagedPool::row_of(std::int32_t request, std::int32_t token, int which) const {
  const PageTable table{indptr_.data(), indices_.data(), last_page_len_.data(), page_size,
                        static_cast<std::int32_t>(kv_lens_.size())};
  const KvSlot slot = table.locate(request, token);
  return (slot.page * 2 + which) * page_size + slot.entry;
}

void PagedPool::download(std::int32_t place, ladder::Case& into) const {
  into.kv_cache = ladder::OwnedTensor(DType::f16, {num_pages(), 2, page_size, num_kv_heads, head_dim});
  gpu::check(cudaMemcpy(into.kv_cache.view().data, bytes(place), static_cast<std::size_t>(rows()) * width * 2,
                        cudaMemcpyDeviceToHost));
  into.paged_kv_indptr = indptr_;
  into.paged_kv_indices = indices_;
  into.paged_kv_last_page_len = last_page_len_;
}

PagedKvTable PagedPool::device_table() const {
  return {span_of(device_indptr_), span_of(device_indices_), span_of(device_last_page_len_)};
}

}  // namespace flashladder::bench
