// rope_*_append_paged_kv_cache, by the kernels of gpu/rope/rope_kernel.cuh: q is rotated in place, k on its way into its
// page, and v is copied beside it; for an fp8 cache both are quantised. Beside RoPE and then append this saves a launch, and k
// is written and read once less.
#include "core/checks.hpp"
#include "core/op_checks.hpp"
#include "gpu/append/append.hpp"
#include "gpu/append/page_table_arguments.hpp"
#include "gpu/arguments.hpp"
#include "gpu/rope/rope_launch.cuh"
#include "gpu/slot_halves.hpp"

namespace flashladder::gpu {
namespace {

// What is rotated and appended.
struct Rows {
  const Tensor& q;
  const ConstTensor &append_key, &append_value;
  std::span<const std::int32_t> positions;
  const PagedKvCache& cache;
  const KvScales& scales;
};

// All but how they rotate and where they go. Checks what core/op_checks.hpp leaves to the GPU.
RopeParams params(const Rows& r, const std::int32_t* page_ids) {
  require_16_bits("q", r.q);
  require_int32_shape("q", r.q);
  require_int32_shape("append_key", r.append_key);
  require_int32_heads("append_key", r.q.shape[1] + 2 * r.append_key.shape[1]);
  return {.q = head_rows(r.q), .k = head_rows(r.append_key), .v = head_rows(r.append_value),
          .positions = r.positions.data(), .nnz = static_cast<std::int32_t>(r.positions.size()),
          .kv = kv_pages(r.cache, page_ids)};
}

// Where they go: by requests, or by slots.
RopeParams params(const Rows& r, std::span<const std::int32_t> batch_indices, const PagedKvTable& table) {
  check_rope_append(r.q, r.append_key, r.append_value, batch_indices, r.positions, r.cache, table, &r.scales);
  check_table(table);
  RopeParams p = params(r, table.paged_kv_indices.data());
  p.batch_indices = batch_indices.data();
  p.indptr = table.paged_kv_indptr.data();
  return p;
}
RopeParams params(const Rows& r, std::span<const std::int64_t> slot_mapping) {
  const SlotHalves slots = slot_halves(slot_mapping, r.cache);
  check_rope_append(r.q, r.append_key, r.append_value, r.positions, slot_mapping, r.cache, &r.scales);
  RopeParams p = params(r, nullptr);
  p.batch_indices = slots.requests;
  p.slots = slots.positions;
  p.index_bytes = slots.index_bytes;
  return p;
}

// How they rotate, and on which stream.
struct Turn {
  std::int32_t rotary_dim;
  RopeStyle style;
  cudaStream_t stream;
  bool enable_pdl;
};

template <class Angles, class Kv>
void launch_call(const RopeCall& call, bool pieces, const Angles& angles, const Kv& kv) {
  if (call.dtype == DType::f16) return launch_rope_append<Half>(call, pieces, angles, kv);
  launch_rope_append<BFloat16>(call, pieces, angles, kv);
}

template <class Angles>
void launch_call(const Rows& r, RopeParams p, const Turn& turn, bool angles_aligned, const Angles& angles) {
  p.rotary_dim = turn.rotary_dim;
  const int eight = 8 * static_cast<int>(size_of(r.cache.dtype));  // bytes that a lane stores at once
  const bool pieces = angles_aligned && p.rotary_dim % 16 == 0 && p.k.dim % 16 == 0 && p.v.dim % 16 == 0 &&
                      is_aligned(p.q) && is_aligned(p.k) && is_aligned(p.v) &&
                      is_aligned(p.kv.k, p.kv.k_strides, eight) && is_aligned(p.kv.v, p.kv.v_strides, eight);
  const RopeCall call{.params = p, .dtype = r.q.dtype, .style = turn.style, .stream = turn.stream,
                      .enable_pdl = turn.enable_pdl};
  if (is_fp8(r.cache.dtype)) return launch_call(call, pieces, angles, KvQuantiser(r.scales, r.cache.dtype));
  launch_call(call, pieces, angles, Unquantised{});
}

void launch_cached(const Rows& r, const RopeParams& p, const ConstTensor& cos_sin_cache, bool is_neox, cudaStream_t stream,
                   bool enable_pdl) {
  check_cos_sin_cache(cos_sin_cache, r.q.shape[2], {{"q", r.q}, {"paged_kv_cache.k", k_pool(r.cache)},
                                                    {"paged_kv_cache.v", v_pool(r.cache)}});
  const auto rotary_dim = static_cast<std::int32_t>(cos_sin_cache.shape[1]);
  launch_call(r, p, {rotary_dim, style_of(!is_neox), stream, enable_pdl}, is_aligned(cos_sin_cache),
              cached_angles(cos_sin_cache));
}

void launch_computed(const Rows& r, const RopeParams& p, std::int32_t rotary_dim, bool interleave, float rope_scale,
                     float rope_theta, const std::optional<Llama31Scaling>& llama31, cudaStream_t stream, bool enable_pdl) {
  const std::int32_t rotated = checked_rotary_dim(rotary_dim, r.q.shape[2], rope_scale, rope_theta, llama31);
  launch_call(r, p, {rotated, style_of(interleave), stream, enable_pdl}, true,
              ComputedAngles{rope_turns(rotated, rope_scale, rope_theta, llama31)});
}

}  // namespace

void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   bool is_neox, std::span<const std::int32_t> batch_indices,
                                                   std::span<const std::int32_t> positions,
                                                   const PagedKvCache& paged_kv_cache, const PagedKvTable& table,
                                                   cudaStream_t stream, bool enable_pdl, const KvScales& scales) {
  const Rows rows{q, append_key, append_value, positions, paged_kv_cache, scales};
  launch_cached(rows, params(rows, batch_indices, table), cos_sin_cache, is_neox, stream, enable_pdl);
}
void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   bool is_neox, std::span<const std::int32_t> positions,
                                                   std::span<const std::int64_t> slot_mapping,
                                                   const PagedKvCache& paged_kv_cache, cudaStream_t stream,
                                                   bool enable_pdl, const KvScales& scales) {
  const Rows rows{q, append_key, append_value, positions, paged_kv_cache, scales};
  launch_cached(rows, params(rows, slot_mapping), cos_sin_cache, is_neox, stream, enable_pdl);
}

void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta,
                                        std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                                        const PagedKvCache& paged_kv_cache, const PagedKvTable& table, cudaStream_t stream,
                                        bool enable_pdl, const std::optional<Llama31Scaling>& llama31,
                                        const KvScales& scales) {
  const Rows rows{q, append_key, append_value, positions, paged_kv_cache, scales};
  launch_computed(rows, params(rows, batch_indices, table), rotary_dim, interleave, rope_scale, rope_theta, llama31, stream,
                  enable_pdl);
}
void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta,
                                        std::span<const std::int32_t> positions, std::span<const std::int64_t> slot_mapping,
                                        const PagedKvCache& paged_kv_cache, cudaStream_t stream, bool enable_pdl,
                                        const std::optional<Llama31Scaling>& llama31, const KvScales& scales) {
  const Rows rows{q, append_key, append_value, positions, paged_kv_cache, scales};
  launch_computed(rows, params(rows, slot_mapping), rotary_dim, interleave, rope_scale, rope_theta, llama31, stream,
                  enable_pdl);
}

}  // namespace flashladder::gpu
