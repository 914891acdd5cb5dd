// apply_rope_*_inplace: gpu/rope/rope_kernel.cuh on q and k where they lie.
#include "gpu/rope/rope.hpp"

#include "core/checks.hpp"
#include "core/op_checks.hpp"
#include "gpu/arguments.hpp"
#include "gpu/rope/rope_launch.cuh"

namespace flashladder::gpu {
namespace {

RopeCall rope_call(const Tensor& q, const Tensor& k, std::span<const std::int32_t> positions, std::int32_t rotary_dim,
                   RopeStyle style) {
  RopeCall call{.dtype = q.dtype, .style = style};
  call.params.q = head_rows(q);
  call.params.k = head_rows(k);
  call.params.positions = positions.data();
  call.params.nnz = static_cast<std::int32_t>(positions.size());
  call.params.rotary_dim = rotary_dim;
  call.pieces = rotary_dim % 16 == 0 && is_aligned(call.params.q) && is_aligned(call.params.k);
  call.lanes = rotary_dim / 16;
  if (!call.pieces || call.lanes > rope_threads) call.use_elements();
  return call;
}

void check_rope(const Tensor& q, const Tensor& k, const char* argument, std::span<const std::int32_t> positions) {
  const auto nnz = static_cast<std::int64_t>(positions.size());
  check_rope_heads(q, k, nnz);
  require_16_bits("q", q);
  require_int32_shape("q", q);
  require_int32_shape("k", k);
  check_span(argument, positions, nnz);
}

}  // namespace

void apply_rope_with_cos_sin_cache_inplace(std::span<const std::int32_t> positions, const Tensor& q, const Tensor& k,
                                           const Tensor& cos_sin_cache, bool is_neox, cudaStream_t stream, bool enable_pdl) {
  check_rope(q, k, "positions", positions);
  check_cos_sin_cache(cos_sin_cache, q.shape[2]);
  RopeCall call = rope_call(q, k, positions, static_cast<std::int32_t>(cos_sin_cache.shape[1]), style_of(!is_neox));
  if (!is_aligned(cos_sin_cache)) call.use_elements();
  call.stream = stream;
  call.enable_pdl = enable_pdl;
  launch_rope<false>(call, cached_angles(cos_sin_cache));
}

void apply_rope_pos_ids_inplace(const Tensor& q, const Tensor& k, std::span<const std::int32_t> pos_ids,
                                std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta,
                                cudaStream_t stream, bool enable_pdl) {
  check_rope(q, k, "pos_ids", pos_ids);
  const std::int32_t rotated = checked_rotary_dim(rotary_dim, q.shape[2], rope_scale, rope_theta);
  RopeCall call = rope_call(q, k, pos_ids, rotated, style_of(interleave));
  call.stream = stream;
  call.enable_pdl = enable_pdl;
  launch_rope<false>(call, ComputedAngles{rope_turns(rotated, rope_scale, rope_theta)});
}

}  // namespace flashladder::gpu
