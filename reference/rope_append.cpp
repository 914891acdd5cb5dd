#include "reference/rope_append.hpp"

#include "core/checks.hpp"
#include "core/validate.hpp"
#include "reference/append_rows.hpp"
#include "reference/rotate_head.hpp"

namespace flashladder::reference {
namespace {

using Indices = std::span<const std::int32_t>;
using Slots = std::span<const std::int64_t>;

// What is rotated and appended; checked, but for what lies in the index arrays.
struct Rows {
  const Tensor& q;
  const ConstTensor &key, &value;
  Indices positions;
  const PagedKvCache& cache;
  const KvScales& scales;
};

// Where they go, by requests or by slots: whether row i goes anywhere, and, checked, where each of those goes that do.
struct ByRequests {
  Indices batch_indices, positions;
  const PagedKvCache& cache;
  const PagedKvTable& table;
  bool goes(std::size_t i) const { return batch_indices[i] != -1; }
  std::span<const AppendedRow> rows() const { return checked_rows(checked_table(table, cache), batch_indices, positions); }
};
struct BySlots {
  Slots slot_mapping;
  const PagedKvCache& cache;
  bool goes(std::size_t i) const { return slot_mapping[i] != -1; }
  std::span<const AppendedRow> rows() const { return checked_rows(slot_mapping, cache); }
};

template <class Places, class Angles>
void rotate_and_append(const Rows& a, const Places& places, const Angles& angles) {
  for (std::size_t i = 0; i < a.positions.size(); ++i) {
    if (places.goes(i)) angles.check("positions", static_cast<std::int64_t>(i), a.positions[i]);
  }
  const Tensor k = k_pool(a.cache), v = v_pool(a.cache);
  for (const AppendedRow& row : places.rows()) {
    const Rotations rotations = angles.at(a.positions[static_cast<std::size_t>(row.row)]);
    for (std::int64_t head = 0; head < a.q.shape[1]; ++head) {
      const std::int64_t offset = head_offset(a.q, row.row, head);
      rotate_head(a.q, offset, a.q, offset, angles.style, rotations);
    }
    for (std::int64_t head = 0; head < a.key.shape[1]; ++head) {
      const std::span<float> rotated = rotated_head(a.key, head_offset(a.key, row.row, head), angles.style, rotations);
      store_scaled(rotated, of_k(a.scales).of(head), k, pool_offset(k, row.slot, head));
    }
    copy_row(a.key, row, k, of_k(a.scales), angles.rotary_dim);  // features that do not rotate
    copy_row(a.value, row, v, of_v(a.scales));
  }
}

template <class Places>
void with_cache(const Rows& a, const Places& places, const ConstTensor& cos_sin_cache, bool is_neox) {
  check_cos_sin_cache(cos_sin_cache, a.q.shape[2], {{"q", a.q}, {"paged_kv_cache.k", k_pool(a.cache)},
                                                    {"paged_kv_cache.v", v_pool(a.cache)}});
  const auto rotary_dim = static_cast<std::int32_t>(cos_sin_cache.shape[1]);
  rotate_and_append(a, places, CachedAngles{rotary_dim, style_of(!is_neox), cos_sin_cache});
}

}  // namespace

void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta,
                                        Indices batch_indices, Indices positions, const PagedKvCache& paged_kv_cache,
                                        const PagedKvTable& table, const std::optional<Llama31Scaling>& llama31,
                                        const KvScales& scales) {
  check_rope_append(q, append_key, append_value, batch_indices, positions, paged_kv_cache, table, &scales);
  validate_on_host(scales);
  const std::int32_t rotated = checked_rotary_dim(rotary_dim, q.shape[2], rope_scale, rope_theta, llama31);
  rotate_and_append({q, append_key, append_value, positions, paged_kv_cache, scales},
                    ByRequests{batch_indices, positions, paged_kv_cache, table},
                    ComputedAngles{rotated, style_of(interleave), rope_scale, rope_theta, llama31});
}
void rope_pos_ids_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                                        std::int32_t rotary_dim, bool interleave, float rope_scale, float rope_theta,
                                        Indices positions, Slots slot_mapping, const PagedKvCache& paged_kv_cache,
                                        const std::optional<Llama31Scaling>& llama31, const KvScales& scales) {
  check_rope_append(q, append_key, append_value, positions, slot_mapping, paged_kv_cache, &scales);
  validate_on_host(scales);
  const std::int32_t rotated = checked_rotary_dim(rotary_dim, q.shape[2], rope_scale, rope_theta, llama31);
  rotate_and_append({q, append_key, append_value, positions, paged_kv_cache, scales}, BySlots{slot_mapping, paged_kv_cache},
                    ComputedAngles{rotated, style_of(interleave), rope_scale, rope_theta, llama31});
}

void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   bool is_neox, Indices batch_indices, Indices positions,
                                                   const PagedKvCache& paged_kv_cache, const PagedKvTable& table,
                                                   const KvScales& scales) {
  check_rope_append(q, append_key, append_value, batch_indices, positions, paged_kv_cache, table, &scales);
  validate_on_host(scales);
  with_cache({q, append_key, append_value, positions, paged_kv_cache, scales},
             ByRequests{batch_indices, positions, paged_kv_cache, table}, cos_sin_cache, is_neox);
}
void rope_with_cos_sin_cache_append_paged_kv_cache(const Tensor& q, const ConstTensor& append_key,
                                                   const ConstTensor& append_value, const ConstTensor& cos_sin_cache,
                                                   bool is_neox, Indices positions, Slots slot_mapping,
                                                   const PagedKvCache& paged_kv_cache, const KvScales& scales) {
  check_rope_append(q, append_key, append_value, positions, slot_mapping, paged_kv_cache, &scales);
  validate_on_host(scales);
  with_cache({q, append_key, append_value, positions, paged_kv_cache, scales}, BySlots{slot_mapping, paged_kv_cache},
             cos_sin_cache, is_neox);
}

}  // namespace flashladder::reference
