// RoPE and append in one call: reference/rope_append.cpp on the CPU, gpu/append/rope_append.cu on the GPU.
#include "api/operations.hpp"
#include "reference/rope_append.hpp"
#ifdef FLASHLADDER_CUDA
#include "gpu/append/append.hpp"
#endif

namespace flashladder::api {
namespace {

using Indices = std::span<const std::int32_t>;
using Slots = std::span<const std::int64_t>;

}  // namespace

void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        Indices batch_indices, Indices positions, const PagedKvCache& paged_kv_cache,
                                        Indices paged_kv_indptr, Indices paged_kv_indices, Indices paged_kv_last_page_len,
                                        const RopeOptions& o, const On& on, const KvScales& scales) {
  require_device(on.device);
  const PagedKvTable table{paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len};
  if (on.device == Device::cpu) {
    return reference::rope_pos_ids_append_paged_kv_cache(q, append_key, append_value, o.rotary_dim, o.interleave,
                                                         o.rope_scale, o.rope_theta, batch_indices, positions,
                                                         paged_kv_cache, table, o.llama31, scales);
  }
#ifdef FLASHLADDER_CUDA
  gpu::rope_pos_ids_append_paged_kv_cache(q, append_key, append_value, o.rotary_dim, o.interleave, o.rope_scale,
                                          o.rope_theta, batch_indices, positions, paged_kv_cache, table,
                                          static_cast<cudaStream_t>(on.stream), on.enable_pdl, o.llama31, scales);
#endif
}

void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   Indices batch_indices, Indices positions,
                                                   const PagedKvCache& paged_kv_cache, Indices paged_kv_indptr,
                                                   Indices paged_kv_indices, Indices paged_kv_last_page_len, bool is_neox,
                                                   const On& on, const KvScales& scales) {
  require_device(on.device);
  const PagedKvTable table{paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len};
  if (on.device == Device::cpu) {
    return reference::rope_with_cos_sin_cache_append_paged_kv_cache(q, append_key, append_value, cos_sin_cache, is_neox,
                                                                    batch_indices, positions, paged_kv_cache, table, scales);
  }
#ifdef FLASHLADDER_CUDA
  gpu::rope_with_cos_sin_cache_append_paged_kv_cache(q, append_key, append_value, cos_sin_cache, is_neox, batch_indices,
                                                     positions, paged_kv_cache, table,
                                                     static_cast<cudaStream_t>(on.stream), on.enable_pdl, scales);
#endif
}

void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        Indices positions, Slots slot_mapping, const PagedKvCache& paged_kv_cache,
                                        const RopeOptions& o, const On& on, const KvScales& scales) {
  require_device(on.device);
  if (on.device == Device::cpu) {
    return reference::rope_pos_ids_append_paged_kv_cache(q, append_key, append_value, o.rotary_dim, o.interleave,
                                                         o.rope_scale, o.rope_theta, positions, slot_mapping,
                                                         paged_kv_cache, o.llama31, scales);
  }
#ifdef FLASHLADDER_CUDA
  gpu::rope_pos_ids_append_paged_kv_cache(q, append_key, append_value, o.rotary_dim, o.interleave, o.rope_scale,
                                          o.rope_theta, positions, slot_mapping, paged_kv_cache,
                                          static_cast<cudaStream_t>(on.stream), on.enable_pdl, o.llama31, scales);
#endif
}

void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   Indices positions, Slots slot_mapping,
                                                   const PagedKvCache& paged_kv_cache, bool is_neox, const On& on,
                                                   const KvScales& scales) {
  require_device(on.device);
  if (on.device == Device::cpu) {
    return reference::rope_with_cos_sin_cache_append_paged_kv_cache(q, append_key, append_value, cos_sin_cache, is_neox,
                                                                    positions, slot_mapping, paged_kv_cache, scales);
  }
#ifdef FLASHLADDER_CUDA
  gpu::rope_with_cos_sin_cache_append_paged_kv_cache(q, append_key, append_value, cos_sin_cache, is_neox, positions,
                                                     slot_mapping, paged_kv_cache, static_cast<cudaStream_t>(on.stream),
                                                     on.enable_pdl, scales);
#endif
}

}  // namespace flashladder::api
