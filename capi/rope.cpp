// RoPE, in place and with the append: each call of the C++ interface, with its arrays as long as the tensors say.
#include <algorithm>

#include "api/operations.hpp"
#include "capi/errors.hpp"
#include "capi/structs.hpp"
#include "core/validate.hpp"

using namespace flashladder;
using namespace flashladder::capi;

namespace {

api::RopeOptions rope_of(const fl_rope* rope) {
  api::RopeOptions options;
  if (rope == nullptr) return options;
  const fl_rope given = read(rope, "rope");
  auto& [rotary_dim, interleave, rope_scale, rope_theta, llama31] = options;  // a name for each field: none is forgotten
  rotary_dim = given.rotary_dim;
  interleave = flag(given.interleave, "interleave");
  rope_scale = or_default(given.rope_scale, rope_scale);
  rope_theta = or_default(given.rope_theta, rope_theta);
  if (given.old_context_len != 0) {
    constexpr Llama31Scaling its;
    llama31 = {or_default(given.low_freq_factor, its.low_freq_factor),
               or_default(given.high_freq_factor, its.high_freq_factor), given.old_context_len};
  } else {
    constexpr const char* rule = "must be 0 where old_context_len is: then there is no Llama 3.1 scaling";
    require(given.low_freq_factor == 0, "low_freq_factor", given.low_freq_factor, rule);
    require(given.high_freq_factor == 0, "high_freq_factor", given.high_freq_factor, rule);
  }
  return options;
}

template <class Position>
fl_status rope_by_table(const fl_tensor* q, const fl_tensor* k, const Position* positions, const fl_tensor* cos_sin_cache,
                        std::int32_t is_neox, const fl_on* on) {
  return guarded([&] {
    const Tensor query = tensor_of(q, "q"), table = tensor_of(cos_sin_cache, "cos_sin_cache");
    api::apply_rope_with_cos_sin_cache_inplace(array(positions, rows_of(query), "positions"), query, tensor_of(k, "k"), table,
                                               flag(is_neox, "is_neox"), on_of(on));
  });
}

}  // namespace

fl_status fl_apply_rope_pos_ids_inplace(const fl_tensor* q, const fl_tensor* k, const std::int32_t* pos_ids,
                                        const fl_rope* rope, const fl_on* on) {
  return guarded([&] {
    const Tensor query = tensor_of(q, "q");
    api::apply_rope_pos_ids_inplace(query, tensor_of(k, "k"), array(pos_ids, rows_of(query), "pos_ids"), rope_of(rope),
                                    on_of(on));
  });
}

fl_status fl_apply_rope_with_cos_sin_cache_inplace(const fl_tensor* q, const fl_tensor* k, const std::int32_t* positions,
                                                   const fl_tensor* cos_sin_cache, std::int32_t is_neox, const fl_on* on) {
  return rope_by_table(q, k, positions, cos_sin_cache, is_neox, on);
}

fl_status fl_apply_rope_with_cos_sin_cache_inplace_int64(const fl_tensor* q, const fl_tensor* k,
                                                         const std::int64_t* positions, const fl_tensor* cos_sin_cache,
                                                         std::int32_t is_neox, const fl_on* on) {
  return rope_by_table(q, k, positions, cos_sin_cache, is_neox, on);
}

fl_status fl_make_cos_sin_cache(std::int32_t max_pos, std::int32_t rotary_dim, float rope_scale, float rope_theta,
                                float* out, std::int64_t size) {
  return guarded([&] {
    const bool sizes = max_pos > 0 && rotary_dim > 0;  // if not, the call below refuses
    require(!sizes || size == std::int64_t{max_pos} * rotary_dim, "size", size, "must be max_pos * rotary_dim");
    const std::span<float> table = array(out, size, "out");
    std::ranges::copy(api::make_cos_sin_cache(max_pos, rotary_dim, or_default(rope_scale, 1),
                                              or_default(rope_theta, 10000)), table.begin());
  });
}

fl_status fl_make_rope_cos_sin_cache(std::int32_t max_pos, const fl_rope* rope, float* out, std::int64_t size) {
  return guarded([&] {
    const api::RopeOptions o = rope_of(require_pointer(rope, "rope"));
    const bool sizes = max_pos > 0 && o.rotary_dim > 0;  // if not, the call below refuses
    require(!sizes || size == std::int64_t{max_pos} * o.rotary_dim, "size", size, "must be max_pos * rotary_dim");
    const std::span<float> table = array(out, size, "out");
    std::ranges::copy(api::make_cos_sin_cache(max_pos, o.rotary_dim, o.rope_scale, o.rope_theta, o.llama31),
                      table.begin());
  });
}

fl_status fl_rope_pos_ids_append_paged_kv_cache(const fl_tensor* q, const fl_tensor* append_key,
                                                const fl_tensor* append_value, const std::int32_t* batch_indices,
                                                const std::int32_t* positions, const fl_kv_cache* kv,
                                                const fl_page_lists* pages, const fl_rope* rope, const fl_on* on) {
  return guarded([&] {
    const Tensor key = tensor_of(append_key, "append_key");
    const PagedKvCache cache = paged_cache_of(kv);
    const PageLists p = page_lists_of(pages);
    api::rope_pos_ids_append_paged_kv_cache(tensor_of(q, "q"), key, tensor_of(append_value, "append_value"),
                                            array(batch_indices, rows_of(key), "batch_indices"),
                                            array(positions, rows_of(key), "positions"), cache, p.indptr, p.indices,
                                            p.last_page_len, rope_of(rope), on_of(on), scales_of(kv, cache.num_kv_heads));
  });
}

fl_status fl_rope_with_cos_sin_cache_append_paged_kv_cache(const fl_tensor* q, const fl_tensor* append_key,
                                                           const fl_tensor* append_value, const fl_tensor* cos_sin_cache,
                                                           const std::int32_t* batch_indices, const std::int32_t* positions,
                                                           const fl_kv_cache* kv, const fl_page_lists* pages,
                                                           std::int32_t is_neox, const fl_on* on) {
  return guarded([&] {
    const Tensor key = tensor_of(append_key, "append_key");
    const PagedKvCache cache = paged_cache_of(kv);
    const PageLists p = page_lists_of(pages);
    api::rope_with_cos_sin_cache_append_paged_kv_cache(
        tensor_of(q, "q"), key, tensor_of(append_value, "append_value"), tensor_of(cos_sin_cache, "cos_sin_cache"),
        array(batch_indices, rows_of(key), "batch_indices"), array(positions, rows_of(key), "positions"),
        cache, p.indptr, p.indices, p.last_page_len, flag(is_neox, "is_neox"), on_of(on), scales_of(kv, cache.num_kv_heads));
  });
}

fl_status fl_rope_pos_ids_append_paged_kv_cache_by_slots(const fl_tensor* q, const fl_tensor* append_key,
                                                         const fl_tensor* append_value, const std::int32_t* positions,
                                                         const std::int64_t* slot_mapping, const fl_kv_cache* kv,
                                                         const fl_rope* rope, const fl_on* on) {
  return guarded([&] {
    const Tensor key = tensor_of(append_key, "append_key");
    const PagedKvCache cache = paged_cache_of(kv);
    api::rope_pos_ids_append_paged_kv_cache(tensor_of(q, "q"), key, tensor_of(append_value, "append_value"),
                                            array(positions, rows_of(key), "positions"),
                                            array(slot_mapping, rows_of(key), "slot_mapping"), cache, rope_of(rope),
                                            on_of(on), scales_of(kv, cache.num_kv_heads));
  });
}

fl_status fl_rope_with_cos_sin_cache_append_paged_kv_cache_by_slots(
    const fl_tensor* q, const fl_tensor* append_key, const fl_tensor* append_value, const fl_tensor* cos_sin_cache,
    const std::int32_t* positions, const std::int64_t* slot_mapping, const fl_kv_cache* kv, std::int32_t is_neox,
    const fl_on* on) {
  return guarded([&] {
    const Tensor key = tensor_of(append_key, "append_key");
    const PagedKvCache cache = paged_cache_of(kv);
    api::rope_with_cos_sin_cache_append_paged_kv_cache(
        tensor_of(q, "q"), key, tensor_of(append_value, "append_value"), tensor_of(cos_sin_cache, "cos_sin_cache"),
        array(positions, rows_of(key), "positions"), array(slot_mapping, rows_of(key), "slot_mapping"), cache,
        flag(is_neox, "is_neox"), on_of(on), scales_of(kv, cache.num_kv_heads));
  });
}
