#include "gpu/device_problem.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/validate.hpp"

namespace flashladder::gpu {
namespace {

template <class T>
std::span<T> upload(std::span<T> host, DeviceBuffer& buffer) {
  buffer = DeviceBuffer(host.data(), host.size_bytes());
  return {buffer.as<T>(), host.size()};
}

// Bytes from the first element of a cache tensor to just past its last.
std::size_t extent(const PagedKvCache& kv, const KvStrides& s, std::int32_t dim) {
  const std::int64_t last = s.offset({kv.num_pages - std::int64_t{1}, kv.page_size - 1}, kv.num_kv_heads - 1) + dim;
  return static_cast<std::size_t>(last) * size_of(kv.dtype);
}

}  // namespace

DeviceProblem::DeviceProblem(const AttentionProblem& host) : view_(host) {
  validate(host);
  const Tensor& q = host.q;
  require(q.size() == 0 || (q.strides[2] == 1 && q.strides[1] == q.shape[2] && q.strides[0] == q.shape[1] * q.shape[2]),
          "q stride", q.strides[0], "must be dense to be copied to the GPU");
  q_ = DeviceBuffer(q.data, static_cast<std::size_t>(q.size()) * size_of(q.dtype));
  view_.q.data = q_.data();
  upload_cache(host.kv);
  view_.qo_indptr = upload(host.qo_indptr, qo_indptr_);
  view_.paged_kv_indptr = upload(host.paged_kv_indptr, kv_indptr_);
  view_.paged_kv_indices = upload(host.paged_kv_indices, kv_indices_);
  view_.paged_kv_last_page_len = upload(host.paged_kv_last_page_len, last_page_len_);
  view_.block_tables = upload(host.block_tables, block_tables_);
  view_.seq_lens = upload(host.seq_lens, seq_lens_);
  view_.custom_mask = upload(host.custom_mask, mask_);
  view_.sinks = upload(host.sinks, sinks_);
  view_.scales.k_per_head = upload(host.scales.k_per_head, k_scales_);
  view_.scales.v_per_head = upload(host.scales.v_per_head, v_scales_);
}

// One 5-D tensor holds K and V page by page, so that their bytes interleave: it is copied as a whole, once.
void DeviceProblem::upload_cache(const PagedKvCache& kv) {
  auto* k = static_cast<std::byte*>(kv.k);
  auto* v = static_cast<std::byte*>(kv.v);
  std::byte* k_end = k + extent(kv, kv.k_strides, kv.head_dim_qk);
  std::byte* v_end = v + extent(kv, kv.v_strides, kv.head_dim_vo);
  if (k < v_end && v < k_end) {
    std::byte* begin = std::min(k, v);
    k_ = DeviceBuffer(begin, static_cast<std::size_t>(std::max(k_end, v_end) - begin));
    view_.kv.k = k_.data() + (k - begin);
    view_.kv.v = k_.data() + (v - begin);
  } else {
    k_ = DeviceBuffer(k, static_cast<std::size_t>(k_end - k));
    v_ = DeviceBuffer(v, static_cast<std::size_t>(v_end - v));
    view_.kv.k = k_.data();
    view_.kv.v = v_.data();
  }
}

}  // namespace flashladder::gpu
