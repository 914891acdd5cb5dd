// RoPE and append in one call: a kernel on the GPU; on the CPU the two references one after the other, on copies, so that
// the caller sees what the kernel does: append_key keeps its bits, q changes only where a row is appended, and nothing is
// written before all is checked.
#include <cstring>
#include <vector>

#include "api/operations.hpp"
#include "core/checks.hpp"
#include "core/op_checks.hpp"
#include "reference/append.hpp"
#include "reference/rope_ops.hpp"
#ifdef FLASHLADDER_CUDA
#include "gpu/append/append.hpp"
#endif

namespace flashladder::api {
namespace {

using Indices = std::span<const std::int32_t>;

std::byte* at(const Tensor& t, std::int64_t row, std::int64_t head) {
  const std::int64_t offset = row * t.strides[0] + head * t.strides[1];
  return t.data_as<std::byte>() + offset * static_cast<std::int64_t>(size_of(t.dtype));
}

void copy_row(const Tensor& from, const Tensor& to, std::int64_t row) {  // both [nnz, heads, dim]
  const std::size_t bytes = static_cast<std::size_t>(from.shape[2]) * size_of(from.dtype);
  for (std::int64_t head = 0; head < from.shape[1]; ++head) std::memcpy(at(to, row, head), at(from, row, head), bytes);
}

struct DenseCopy {
  std::vector<std::byte> bytes;
  Tensor t;

  explicit DenseCopy(const Tensor& from)
      : bytes(static_cast<std::size_t>(from.size()) * size_of(from.dtype)),
        t(contiguous(bytes.data(), from.dtype, {from.shape[0], from.shape[1], from.shape[2]})) {
    for (std::int64_t row = 0; row < from.shape[0]; ++row) copy_row(from, t, row);
  }
};

// What is appended, and where.
struct Append {
  const Tensor &q, &key, &value;
  Indices batch_indices, positions;
  const PagedKvCache& cache;
  Indices indptr, indices, last_page_len;
};

// rotate(q, k, positions) rotates the copies in place.
template <class Rotate>
void on_cpu(const Append& a, const Rotate& rotate) {
  check_append(a.key, a.value, a.batch_indices, a.positions, a.cache);
  check_rope_heads(a.q, a.key, static_cast<std::int64_t>(a.positions.size()));
  std::vector<std::int32_t> positions(a.positions.begin(), a.positions.end());
  for (std::size_t i = 0; i < positions.size(); ++i) {
    if (a.batch_indices[i] == -1) positions[i] = 0;  // goes nowhere: its position may be anything
    require(positions[i] >= 0, element("positions", static_cast<std::int64_t>(i)).c_str(), positions[i],
            "must not be negative");
  }
  const DenseCopy q(a.q), key(a.key);
  rotate(q.t, key.t, positions);
  reference::append_paged_kv_cache(key.t, a.value, a.batch_indices, a.positions, a.cache, a.indptr, a.indices,
                                   a.last_page_len);
  for (std::size_t i = 0; i < positions.size(); ++i) {
    if (a.batch_indices[i] >= 0) copy_row(q.t, a.q, static_cast<std::int64_t>(i));
  }
}

}  // namespace

void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const Tensor& append_key, const Tensor& append_value,
                                        Indices batch_indices, Indices positions, const PagedKvCache& paged_kv_cache,
                                        Indices paged_kv_indptr, Indices paged_kv_indices, Indices paged_kv_last_page_len,
                                        const RopeOptions& o, const On& on) {
  require_device(on.device);
  if (on.device == Device::cpu) {
    return on_cpu({q, append_key, append_value, batch_indices, positions, paged_kv_cache, paged_kv_indptr, paged_kv_indices,
                   paged_kv_last_page_len},
                  [&](const Tensor& q_copy, const Tensor& k_copy, Indices pos_ids) {
                    reference::apply_rope_pos_ids_inplace(q_copy, k_copy, pos_ids, o.rotary_dim, o.interleave, o.rope_scale,
                                                          o.rope_theta);
                  });
  }
#ifdef FLASHLADDER_CUDA
  gpu::rope_pos_ids_append_paged_kv_cache(q, append_key, append_value, o.rotary_dim, o.interleave, o.rope_scale,
                                          o.rope_theta, batch_indices, positions, paged_kv_cache,
                                          {paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len},
                                          static_cast<cudaStream_t>(on.stream), on.enable_pdl);
#endif
}

void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const Tensor& append_key, const Tensor& append_value,
                                                   const Tensor& cos_sin_cache, Indices batch_indices, Indices positions,
                                                   const PagedKvCache& paged_kv_cache, Indices paged_kv_indptr,
                                                   Indices paged_kv_indices, Indices paged_kv_last_page_len, bool is_neox,
                                                   const On& on) {
  require_device(on.device);
  if (on.device == Device::cpu) {
    return on_cpu({q, append_key, append_value, batch_indices, positions, paged_kv_cache, paged_kv_indptr, paged_kv_indices,
                   paged_kv_last_page_len},
                  [&](const Tensor& q_copy, const Tensor& k_copy, Indices rows) {
                    reference::apply_rope_with_cos_sin_cache_inplace(rows, q_copy, k_copy, cos_sin_cache, is_neox);
                  });
  }
#ifdef FLASHLADDER_CUDA
  gpu::rope_with_cos_sin_cache_append_paged_kv_cache(q, append_key, append_value, cos_sin_cache, is_neox, batch_indices,
                                                     positions, paged_kv_cache,
                                                     {paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len},
                                                     static_cast<cudaStream_t>(on.stream), on.enable_pdl);
#endif
}

}  // namespace flashladder::api
