#include "reference/rope_append.hpp"

#include "core/checks.hpp"
#include "reference/append_rows.hpp"
#include "reference/rotate_head.hpp"

namespace flashladder::reference {
namespace {

using Indices = std::span<const std::int32_t>;

// What is appended, and where; checked, but for what lies in the index arrays.
struct Append {
  const Tensor& q;
  const ConstTensor &key, &value;
  Indices batch_indices, positions;
  const PagedKvCache& cache;
  const PagedKvTable& table;
};

template <class Angles>
void rotate_and_append(const Append& a, const Angles& angles) {
  for (std::size_t i = 0; i < a.positions.size(); ++i) {
    if (a.batch_indices[i] != -1) angles.check("positions", static_cast<std::int64_t>(i), a.positions[i]);
  }
  const PageTable table = checked_table(a.table, a.cache);
  const Tensor k = k_pool(a.cache), v = v_pool(a.cache);
  for (const AppendedRow& row : checked_rows(table, a.batch_indices, a.positions)) {
    const Rotations rotations = angles.at(row.position);
    for (std::int64_t head = 0; head < a.q.shape[1]; ++head) {
      const std::int64_t offset = head_offset(a.q, row.row, head);
      rotate_head(a.q, offset, a.q, offset, angles.style, rotations);
    }
    for (std::int64_t head = 0; head < a.key.shape[1]; ++head) {
      rotate_head(a.key, head_offset(a.key, row.row, head), k, pool_offset(k, row.slot, head), angles.style, rotations);
    }
    copy_row(a.key, row, k, angles.rotary_dim);  // features that do not rotate
    copy_row(a.value, row, v);
  }
}

}  // namespace

void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta,
                                        Indices batch_indices, Indices positions, const PagedKvCache& paged_kv_cache,
                                        const PagedKvTable& table) {
  check_rope_append(q, append_key, append_value, batch_indices, positions, paged_kv_cache, table);
  const std::int32_t rotated = checked_rotary_dim(rotary_dim, q.shape[2], rope_scale, rope_theta);
  rotate_and_append({q, append_key, append_value, batch_indices, positions, paged_kv_cache, table},
                    ComputedAngles{rotated, style_of(interleave), rope_scale, rope_theta});
}

void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   bool is_neox, Indices batch_indices, Indices positions,
                                                   const PagedKvCache& paged_kv_cache, const PagedKvTable& table) {
  check_rope_append(q, append_key, append_value, batch_indices, positions, paged_kv_cache, table);
  check_cos_sin_cache(cos_sin_cache, q.shape[2], {{"q", q}, {"paged_kv_cache.k", k_pool(paged_kv_cache)},
                                                  {"paged_kv_cache.v", v_pool(paged_kv_cache)}});
  const auto rotary_dim = static_cast<std::int32_t>(cos_sin_cache.shape[1]);
  rotate_and_append({q, append_key, append_value, batch_indices, positions, paged_kv_cache, table},
                    CachedAngles{rotary_dim, style_of(!is_neox), cos_sin_cache});
}

}  // namespace flashladder::reference
