// rope_*_append_paged_kv_cache, by the kernels of gpu/rope/rope_kernel.cuh: q is rotated in place, k on its way into its
// page, and v is copied beside it. Beside RoPE and then append this saves a launch, and k is written and read once less.
#include "core/checks.hpp"
#include "core/op_checks.hpp"
#include "gpu/append/append.hpp"
#include "gpu/append/page_table_arguments.hpp"
#include "gpu/arguments.hpp"
#include "gpu/rope/rope_launch.cuh"

namespace flashladder::gpu {
namespace {

// All arguments but the angles: what is appended, and where.
struct Rows {
  const Tensor& q;
  const ConstTensor &append_key, &append_value;
  std::span<const std::int32_t> batch_indices, positions;
  const PagedKvCache& cache;
  const PagedKvTable& table;
};

void check_rows(const Rows& r) {
  check_rope_append(r.q, r.append_key, r.append_value, r.batch_indices, r.positions, r.cache, r.table);
  require_16_bits("q", r.q);
  require_int32_shape("q", r.q);
  require_int32_shape("append_key", r.append_key);
  require_int32_heads("append_key", r.q.shape[1] + 2 * r.append_key.shape[1]);
  check_table(r.table);
}

RopeCall rope_call(const Rows& r, std::int32_t rotary_dim, bool interleave, cudaStream_t stream, bool enable_pdl) {
  return {.params = {.q = head_rows(r.q), .k = head_rows(r.append_key), .v = head_rows(r.append_value),
                     .positions = r.positions.data(), .batch_indices = r.batch_indices.data(),
                     .nnz = static_cast<std::int32_t>(r.positions.size()), .rotary_dim = rotary_dim,
                     .kv = kv_pages(r.cache, r.table.paged_kv_indices.data()), .indptr = r.table.paged_kv_indptr.data()},
          .dtype = r.q.dtype, .style = style_of(interleave), .stream = stream, .enable_pdl = enable_pdl};
}

template <class Angles>
void launch_call(const RopeCall& call, bool angles_aligned, const Angles& angles) {
  const RopeParams& p = call.params;
  const bool pieces = angles_aligned && p.rotary_dim % 16 == 0 && p.k.dim % 16 == 0 && p.v.dim % 16 == 0 &&
                      is_aligned(p.q) && is_aligned(p.k) && is_aligned(p.v) && is_aligned(p.kv.k, p.kv.k_strides) &&
                      is_aligned(p.kv.v, p.kv.v_strides);
  if (call.dtype == DType::f16) return launch_rope_append<Half>(call, pieces, angles);
  launch_rope_append<BFloat16>(call, pieces, angles);
}

}  // namespace

void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   bool is_neox, std::span<const std::int32_t> batch_indices,
                                                   std::span<const std::int32_t> positions,
                                                   const PagedKvCache& paged_kv_cache, const PagedKvTable& table,
                                                   cudaStream_t stream, bool enable_pdl) {
  const Rows rows{q, append_key, append_value, batch_indices, positions, paged_kv_cache, table};
  check_rows(rows);
  check_cos_sin_cache(cos_sin_cache, q.shape[2], {{"q", q}, {"paged_kv_cache.k", k_pool(paged_kv_cache)},
                                                  {"paged_kv_cache.v", v_pool(paged_kv_cache)}});
  const auto rotary_dim = static_cast<std::int32_t>(cos_sin_cache.shape[1]);
  launch_call(rope_call(rows, rotary_dim, !is_neox, stream, enable_pdl), is_aligned(cos_sin_cache),
              cached_angles(cos_sin_cache));
}

void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta,
                                        std::span<const std::int32_t> batch_indices, std::span<const std::int32_t> positions,
                                        const PagedKvCache& paged_kv_cache, const PagedKvTable& table, cudaStream_t stream,
                                        bool enable_pdl) {
  const Rows rows{q, append_key, append_value, batch_indices, positions, paged_kv_cache, table};
  check_rows(rows);
  const std::int32_t rotated = checked_rotary_dim(rotary_dim, q.shape[2], rope_scale, rope_theta);
  launch_call(rope_call(rows, rotated, interleave, stream, enable_pdl), true,
              ComputedAngles{rope_turns(rotated, rope_scale, rope_theta)});
}

}  // namespace flashladder::gpu
