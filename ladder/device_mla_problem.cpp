#include "ladder/device_mla_problem.hpp"

#include <algorithm>
#include <cstddef>
#include <span>

namespace flashladder::ladder {
namespace {

using gpu::DeviceBuffer;

struct Extent {
  std::byte *begin, *end;
};

// From the first element of [a, b, features] to just past its last one; nothing where there is none.
Extent extent_of(void* data, DType dtype, std::int64_t a, std::int64_t a_stride, std::int64_t b, std::int64_t b_stride,
                 std::int64_t features) {
  auto* begin = static_cast<std::byte*>(data);
  if (a == 0 || b == 0 || features == 0) return {begin, begin};
  const std::int64_t elements = (a - 1) * a_stride + (b - 1) * b_stride + features;
  return {begin, begin + elements * static_cast<std::int64_t>(size_of(dtype))};
}
Extent extent_of(const Tensor& t) {
  return extent_of(t.data, t.dtype, t.shape[0], t.strides[0], t.shape[1], t.strides[1], t.shape[2]);
}

// Two parts to the GPU, together where their bytes interleave; the places of their first elements there.
struct Places {
  std::byte *first, *second;
};
Places upload(Extent first, Extent second, DeviceBuffer (&buffers)[2]) {
  const bool interleave = first.begin < second.end && second.begin < first.end;
  if (!interleave) {
    buffers[0] = DeviceBuffer(first.begin, static_cast<std::size_t>(first.end - first.begin));
    buffers[1] = DeviceBuffer(second.begin, static_cast<std::size_t>(second.end - second.begin));
    return {buffers[0].data(), buffers[1].data()};
  }
  std::byte* begin = std::min(first.begin, second.begin);
  buffers[0] = DeviceBuffer(begin, static_cast<std::size_t>(std::max(first.end, second.end) - begin));
  return {buffers[0].data() + (first.begin - begin), buffers[0].data() + (second.begin - begin)};
}

std::span<const std::int32_t> upload(std::span<const std::int32_t> host, DeviceBuffer& buffer) {
  buffer = DeviceBuffer(host.data(), host.size_bytes());
  return {buffer.as<const std::int32_t>(), host.size()};
}

}  // namespace

DeviceMlaProblem::DeviceMlaProblem(const MlaProblem& host) : view_(host) {
  validate(host);
  const Places q = upload(extent_of(host.q_nope), extent_of(host.q_pe), q_);
  view_.q_nope.data = q.first, view_.q_pe.data = q.second;
  const PagedMlaCache& c = host.cache;
  const auto extent = [&](void* data, const MlaStrides& s, std::int32_t dim) {
    return extent_of(data, c.dtype, c.num_pages, s.page, c.page_size, s.entry, dim);
  };
  const Places cache = upload(extent(c.ckv, c.ckv_strides, c.head_dim_ckv), extent(c.kpe, c.kpe_strides, c.head_dim_kpe),
                              cache_);
  view_.cache.ckv = cache.first, view_.cache.kpe = cache.second;
  view_.qo_indptr = upload(host.qo_indptr, qo_indptr_);
  view_.paged_kv_indptr = upload(host.paged_kv_indptr, kv_indptr_);
  view_.paged_kv_indices = upload(host.paged_kv_indices, kv_indices_);
  view_.paged_kv_last_page_len = upload(host.paged_kv_last_page_len, last_page_len_);
  view_.block_tables = upload(host.block_tables, block_tables_);
  view_.seq_lens = upload(host.seq_lens, seq_lens_);
}

}  // namespace flashladder::ladder
