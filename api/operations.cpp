#include "api/operations.hpp"

#include "core/error.hpp"
#include "reference/append.hpp"
#include "reference/layernorm.hpp"
#include "reference/merge_states.hpp"
#include "reference/mla/append.hpp"
#include "reference/norm.hpp"
#include "reference/rope_ops.hpp"
#ifdef FLASHLADDER_CUDA
#include "gpu/append/append.hpp"
#include "gpu/merge/merge_states.hpp"
#include "gpu/norm/layernorm.hpp"
#include "gpu/norm/norm.hpp"
#include "gpu/rope/rope.hpp"
#endif

namespace flashladder::api {
namespace {

using Indices = std::span<const std::int32_t>;

// If not, there is a GPU: else this has thrown. A build without CUDA never gets further.
bool on_cpu(const On& on) {
  require_device(on.device);
  return on.device == Device::cpu;
}

#ifdef FLASHLADDER_CUDA
cudaStream_t stream_of(const On& on) { return static_cast<cudaStream_t>(on.stream); }
#endif

}  // namespace

void merge_state(const ConstTensor& v_a, const ConstTensor& s_a, const ConstTensor& v_b, const ConstTensor& s_b,
                 const Tensor& v_out, const Tensor& s_out, const On& on) {
  if (on_cpu(on)) return reference::merge_state(v_a, s_a, v_b, s_b, v_out, s_out);
#ifdef FLASHLADDER_CUDA
  gpu::merge_state(v_a, s_a, v_b, s_b, v_out, s_out, stream_of(on), on.enable_pdl);
#endif
}

void merge_state_in_place(const Tensor& v, const Tensor& s, const ConstTensor& v_other, const ConstTensor& s_other,
                          std::span<const std::uint8_t> mask, const On& on) {
  if (on_cpu(on)) return reference::merge_state_in_place(v, s, v_other, s_other, mask);
#ifdef FLASHLADDER_CUDA
  gpu::merge_state_in_place(v, s, v_other, s_other, mask, stream_of(on), on.enable_pdl);
#endif
}

void merge_states(const ConstTensor& v, const ConstTensor& s, const Tensor& v_out, const Tensor& s_out, const On& on) {
  if (on_cpu(on)) return reference::merge_states(v, s, v_out, s_out);
#ifdef FLASHLADDER_CUDA
  gpu::merge_states(v, s, v_out, s_out, stream_of(on), on.enable_pdl);
#endif
}

void variable_length_merge_states(const ConstTensor& v, const ConstTensor& s, Indices indptr, const Tensor& v_out,
                                  const Tensor& s_out, const On& on) {
  if (on_cpu(on)) return reference::variable_length_merge_states(v, s, indptr, v_out, s_out);
#ifdef FLASHLADDER_CUDA
  gpu::variable_length_merge_states(v, s, indptr, v_out, s_out, stream_of(on), on.enable_pdl);
#endif
}

void append_paged_kv_cache(const ConstTensor& append_key, const ConstTensor& append_value, Indices batch_indices,
                           Indices positions, const PagedKvCache& paged_kv_cache, Indices paged_kv_indptr,
                           Indices paged_kv_indices, Indices paged_kv_last_page_len, const On& on,
                           const KvScales& scales) {
  if (on_cpu(on)) return reference::append_paged_kv_cache(append_key, append_value, batch_indices, positions, paged_kv_cache,
                                            paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, scales);
#ifdef FLASHLADDER_CUDA
  gpu::append_paged_kv_cache(append_key, append_value, batch_indices, positions, paged_kv_cache,
                             {paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len}, stream_of(on), on.enable_pdl,
                             scales);
#endif
}

void append_paged_kv_cache(const ConstTensor& append_key, const ConstTensor& append_value,
                           std::span<const std::int64_t> slot_mapping, const PagedKvCache& paged_kv_cache, const On& on,
                           const KvScales& scales) {
  if (on_cpu(on)) return reference::append_paged_kv_cache(append_key, append_value, slot_mapping, paged_kv_cache, scales);
#ifdef FLASHLADDER_CUDA
  gpu::append_paged_kv_cache(append_key, append_value, slot_mapping, paged_kv_cache, stream_of(on), on.enable_pdl,
                             scales);
#endif
}

void append_paged_mla_kv_cache(const ConstTensor& append_ckv, const ConstTensor& append_kpe, Indices batch_indices,
                               Indices positions, const PagedMlaCache& paged_mla_cache, Indices paged_kv_indptr,
                               Indices paged_kv_indices, Indices paged_kv_last_page_len, const On& on,
                               const MlaScales& scales) {
  if (on_cpu(on)) {
    return reference::append_paged_mla_kv_cache(append_ckv, append_kpe, batch_indices, positions, paged_mla_cache,
                                                paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, scales);
  }
#ifdef FLASHLADDER_CUDA
  gpu::append_paged_mla_kv_cache(append_ckv, append_kpe, batch_indices, positions, paged_mla_cache,
                                 {paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len}, stream_of(on), on.enable_pdl,
                                 scales);
#endif
}

void get_batch_indices_positions(Indices append_indptr, Indices seq_lens, std::span<std::int32_t> batch_indices,
                                 std::span<std::int32_t> positions, const On& on) {
  if (on_cpu(on)) return reference::get_batch_indices_positions(append_indptr, seq_lens, batch_indices, positions);
#ifdef FLASHLADDER_CUDA
  gpu::get_batch_indices_positions(append_indptr, seq_lens, batch_indices, positions, stream_of(on), on.enable_pdl);
#endif
}

void get_seq_lens(Indices kv_indptr, Indices kv_last_page_len, std::int32_t page_size, std::span<std::int32_t> seq_lens,
                  const On& on) {
  if (on_cpu(on)) return reference::get_seq_lens(kv_indptr, kv_last_page_len, page_size, seq_lens);
#ifdef FLASHLADDER_CUDA
  gpu::get_seq_lens(kv_indptr, kv_last_page_len, page_size, seq_lens, stream_of(on), on.enable_pdl);
#endif
}

void rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps, const On& on) {
  if (on_cpu(on)) return reference::rmsnorm(input, weight, out, eps);
#ifdef FLASHLADDER_CUDA
  gpu::rmsnorm(input, weight, out, eps, stream_of(on), on.enable_pdl);
#endif
}

void fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps, const On& on) {
  if (on_cpu(on)) return reference::fused_add_rmsnorm(input, residual, weight, eps);
#ifdef FLASHLADDER_CUDA
  gpu::fused_add_rmsnorm(input, residual, weight, eps, stream_of(on), on.enable_pdl);
#endif
}

void rmsnorm_quant(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, const QuantScale& scale, float eps,
                   const On& on) {
  if (on_cpu(on)) return reference::rmsnorm_quant(input, weight, out, scale, eps);
#ifdef FLASHLADDER_CUDA
  gpu::rmsnorm_quant(input, weight, out, scale, eps, stream_of(on), on.enable_pdl);
#endif
}

void fused_add_rmsnorm_quant(const ConstTensor& input, const Tensor& residual, const ConstTensor& weight, const Tensor& out,
                             const QuantScale& scale, float eps, const On& on) {
  if (on_cpu(on)) return reference::fused_add_rmsnorm_quant(input, residual, weight, out, scale, eps);
#ifdef FLASHLADDER_CUDA
  gpu::fused_add_rmsnorm_quant(input, residual, weight, out, scale, eps, stream_of(on), on.enable_pdl);
#endif
}

void gemma_rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps, const On& on) {
  if (on_cpu(on)) return reference::gemma_rmsnorm(input, weight, out, eps);
#ifdef FLASHLADDER_CUDA
  gpu::gemma_rmsnorm(input, weight, out, eps, stream_of(on), on.enable_pdl);
#endif
}

void gemma_fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps,
                             const On& on) {
  if (on_cpu(on)) return reference::gemma_fused_add_rmsnorm(input, residual, weight, eps);
#ifdef FLASHLADDER_CUDA
  gpu::gemma_fused_add_rmsnorm(input, residual, weight, eps, stream_of(on), on.enable_pdl);
#endif
}

void layernorm(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out, float eps,
               const On& on) {
  if (on_cpu(on)) return reference::layernorm(input, gamma, beta, out, eps);
#ifdef FLASHLADDER_CUDA
  gpu::layernorm(input, gamma, beta, out, eps, stream_of(on), on.enable_pdl);
#endif
}

void layernorm_quant(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
                     const QuantScale& scale, float eps, const On& on) {
  if (on_cpu(on)) return reference::layernorm_quant(input, gamma, beta, out, scale, eps);
#ifdef FLASHLADDER_CUDA
  gpu::layernorm_quant(input, gamma, beta, out, scale, eps, stream_of(on), on.enable_pdl);
#endif
}

void apply_rope_pos_ids_inplace(const Tensor& q, const Tensor& k, Indices pos_ids, const RopeOptions& o, const On& on) {
  if (on_cpu(on)) return reference::apply_rope_pos_ids_inplace(q, k, pos_ids, o.rotary_dim, o.interleave, o.rope_scale,
                                                 o.rope_theta, o.llama31);
#ifdef FLASHLADDER_CUDA
  gpu::apply_rope_pos_ids_inplace(q, k, pos_ids, o.rotary_dim, o.interleave, o.rope_scale, o.rope_theta,
                                  stream_of(on), on.enable_pdl, o.llama31);
#endif
}

void apply_llama31_rope_pos_ids_inplace(const Tensor& q, const Tensor& k, Indices pos_ids, const RopeOptions& options,
                                        const On& on) {
  require(options.llama31.has_value(), "options.llama31", "none", "must be given: apply_rope_pos_ids_inplace goes without");
  apply_rope_pos_ids_inplace(q, k, pos_ids, options, on);
}

void apply_rope_with_cos_sin_cache_inplace(Indices positions, const Tensor& q, const Tensor& k,
                                           const ConstTensor& cos_sin_cache, bool is_neox, const On& on) {
  if (on_cpu(on)) return reference::apply_rope_with_cos_sin_cache_inplace(positions, q, k, cos_sin_cache, is_neox);
#ifdef FLASHLADDER_CUDA
  gpu::apply_rope_with_cos_sin_cache_inplace(positions, q, k, cos_sin_cache, is_neox, stream_of(on), on.enable_pdl);
#endif
}

void apply_rope_with_cos_sin_cache_inplace(std::span<const std::int64_t> positions, const Tensor& q, const Tensor& k,
                                           const ConstTensor& cos_sin_cache, bool is_neox, const On& on) {
  if (on_cpu(on)) return reference::apply_rope_with_cos_sin_cache_inplace(positions, q, k, cos_sin_cache, is_neox);
#ifdef FLASHLADDER_CUDA
  gpu::apply_rope_with_cos_sin_cache_inplace(positions, q, k, cos_sin_cache, is_neox, stream_of(on), on.enable_pdl);
#endif
}

std::vector<float> make_cos_sin_cache(std::int32_t max_pos, std::int32_t rotary_dim, float rope_scale, float rope_theta,
                                      const std::optional<Llama31Scaling>& llama31) {
  return reference::make_cos_sin_cache(max_pos, rotary_dim, rope_scale, rope_theta, llama31);
}

}  // namespace flashladder::api
