// Appending, norms and RoPE: each call of the C++ interface, with its arrays as long as the tensors say.
#include <algorithm>

#include "api/operations.hpp"
#include "capi/errors.hpp"
#include "capi/structs.hpp"
#include "core/validate.hpp"

using namespace flashladder;
using namespace flashladder::capi;

namespace {

using Indices = std::span<const std::int32_t>;

struct PageLists {
  Indices indptr, indices, last_page_len;
};
PageLists page_lists_of(const fl_page_lists* pages) {
  const fl_page_lists p = read(pages, "pages");
  require(p.batch >= 0, "pages.batch", p.batch, "must not be negative");
  return {array(p.indptr, std::int64_t{p.batch} + 1, "pages.indptr"), array(p.indices, p.num_indices, "pages.indices"),
          array(p.last_page_len, p.batch, "pages.last_page_len")};
}

float or_default(float given, float its_default) { return given == 0 ? its_default : given; }

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

}  // namespace

fl_status fl_append_paged_kv_cache(const fl_tensor* append_key, const fl_tensor* append_value,
                                   const std::int32_t* batch_indices, const std::int32_t* positions, const fl_kv_cache* kv,
                                   const fl_page_lists* pages, const fl_on* on) {
  return guarded([&] {
    const Tensor key = tensor_of(append_key, "append_key");
    const PagedKvCache cache = paged_cache_of(kv);
    const PageLists p = page_lists_of(pages);
    api::append_paged_kv_cache(key, tensor_of(append_value, "append_value"),
                               array(batch_indices, rows_of(key), "batch_indices"),
                               array(positions, rows_of(key), "positions"), cache, p.indptr, p.indices, p.last_page_len,
                               on_of(on), scales_of(kv, cache.num_kv_heads));
  });
}

fl_status fl_append_paged_mla_kv_cache(const fl_tensor* append_ckv, const fl_tensor* append_kpe,
                                       const std::int32_t* batch_indices, const std::int32_t* positions,
                                       const fl_mla_cache* cache, const fl_page_lists* pages, const fl_on* on) {
  return guarded([&] {
    const PageLists p = page_lists_of(pages);
    const Tensor ckv = tensor_of(append_ckv, "append_ckv");
    api::append_paged_mla_kv_cache(ckv, tensor_of(append_kpe, "append_kpe"),
                                   array(batch_indices, rows_of(ckv), "batch_indices"),
                                   array(positions, rows_of(ckv), "positions"), mla_cache_of(cache), p.indptr, p.indices,
                                   p.last_page_len, on_of(on), mla_scales_of(cache));
  });
}

fl_status fl_append_paged_kv_cache_by_slots(const fl_tensor* append_key, const fl_tensor* append_value,
                                            const std::int64_t* slot_mapping, const fl_kv_cache* kv, const fl_on* on) {
  return guarded([&] {
    const Tensor key = tensor_of(append_key, "append_key");
    const PagedKvCache cache = paged_cache_of(kv);
    api::append_paged_kv_cache(key, tensor_of(append_value, "append_value"),
                               array(slot_mapping, rows_of(key), "slot_mapping"), cache, on_of(on),
                               scales_of(kv, cache.num_kv_heads));
  });
}

fl_status fl_get_batch_indices_positions(const std::int32_t* append_indptr, const std::int32_t* seq_lens, std::int32_t batch,
                                         std::int32_t* batch_indices, std::int32_t* positions, std::int64_t nnz,
                                         const fl_on* on) {
  return guarded([&] {
    require(batch >= 0, "batch", batch, "must not be negative");
    api::get_batch_indices_positions(array(append_indptr, std::int64_t{batch} + 1, "append_indptr"),
                                     array(seq_lens, batch, "seq_lens"), array(batch_indices, nnz, "batch_indices"),
                                     array(positions, nnz, "positions"), on_of(on));
  });
}

fl_status fl_get_seq_lens(const std::int32_t* kv_indptr, const std::int32_t* kv_last_page_len, std::int32_t batch,
                          std::int32_t page_size, std::int32_t* seq_lens, const fl_on* on) {
  return guarded([&] {
    require(batch >= 0, "batch", batch, "must not be negative");
    api::get_seq_lens(array(kv_indptr, std::int64_t{batch} + 1, "kv_indptr"),
                      array(kv_last_page_len, batch, "kv_last_page_len"), page_size, array(seq_lens, batch, "seq_lens"),
                      on_of(on));
  });
}

fl_status fl_validate_page_ids(const fl_page_lists* pages, std::int32_t num_pages) {
  return guarded([&] {
    const PageLists p = page_lists_of(pages);
    validate_page_ids(p.indptr, p.indices, num_pages);
  });
}

fl_status fl_validate_block_ids(const std::int32_t* block_tables, const std::int32_t* seq_lens, std::int32_t batch,
                                std::int32_t max_pages, std::int32_t page_size, std::int32_t num_pages) {
  return guarded([&] {
    require(batch >= 0, "batch", batch, "must not be negative");
    require(max_pages >= 0, "max_pages", max_pages, "must not be negative");
    require(page_size >= 1, "page_size", page_size, "must be at least 1");
    const Indices lengths = array(seq_lens, batch, "seq_lens");
    const Indices ids = array(block_tables, std::int64_t{batch} * max_pages, "block_tables");
    validate_block_table(static_cast<std::int64_t>(ids.size()), lengths, page_size);
    validate_block_ids(ids, lengths, page_size, num_pages);
  });
}

fl_status fl_rmsnorm(const fl_tensor* input, const fl_tensor* weight, const fl_tensor* out, float eps, const fl_on* on) {
  return guarded([&] {
    api::rmsnorm(tensor_of(input, "input"), tensor_of(weight, "weight"), tensor_of(out, "out"), eps, on_of(on));
  });
}

fl_status fl_fused_add_rmsnorm(const fl_tensor* input, const fl_tensor* residual, const fl_tensor* weight, float eps,
                               const fl_on* on) {
  return guarded([&] {
    api::fused_add_rmsnorm(tensor_of(input, "input"), tensor_of(residual, "residual"), tensor_of(weight, "weight"), eps,
                           on_of(on));
  });
}

fl_status fl_rmsnorm_quant(const fl_tensor* input, const fl_tensor* weight, const fl_tensor* out, float scale,
                           const float* stored_scale, float eps, const fl_on* on) {
  return guarded([&] {
    api::rmsnorm_quant(tensor_of(input, "input"), tensor_of(weight, "weight"), tensor_of(out, "out"),
                       {.number = or_default(scale, 1), .stored = stored_scale}, eps, on_of(on));
  });
}

fl_status fl_fused_add_rmsnorm_quant(const fl_tensor* input, const fl_tensor* residual, const fl_tensor* weight,
                                     const fl_tensor* out, float scale, const float* stored_scale, float eps,
                                     const fl_on* on) {
  return guarded([&] {
    api::fused_add_rmsnorm_quant(tensor_of(input, "input"), tensor_of(residual, "residual"), tensor_of(weight, "weight"),
                                 tensor_of(out, "out"), {.number = or_default(scale, 1), .stored = stored_scale}, eps,
                                 on_of(on));
  });
}

fl_status fl_gemma_rmsnorm(const fl_tensor* input, const fl_tensor* weight, const fl_tensor* out, float eps,
                           const fl_on* on) {
  return guarded([&] {
    api::gemma_rmsnorm(tensor_of(input, "input"), tensor_of(weight, "weight"), tensor_of(out, "out"), eps, on_of(on));
  });
}

fl_status fl_gemma_fused_add_rmsnorm(const fl_tensor* input, const fl_tensor* residual, const fl_tensor* weight, float eps,
                                     const fl_on* on) {
  return guarded([&] {
    api::gemma_fused_add_rmsnorm(tensor_of(input, "input"), tensor_of(residual, "residual"), tensor_of(weight, "weight"),
                                 eps, on_of(on));
  });
}

fl_status fl_layernorm(const fl_tensor* input, const fl_tensor* gamma, const fl_tensor* beta, const fl_tensor* out,
                       float eps, const fl_on* on) {
  return guarded([&] {
    api::layernorm(tensor_of(input, "input"), tensor_of(gamma, "gamma"), tensor_of(beta, "beta"), tensor_of(out, "out"),
                   eps, on_of(on));
  });
}

fl_status fl_layernorm_quant(const fl_tensor* input, const fl_tensor* gamma, const fl_tensor* beta, const fl_tensor* out,
                             float scale, const float* stored_scale, float eps, const fl_on* on) {
  return guarded([&] {
    api::layernorm_quant(tensor_of(input, "input"), tensor_of(gamma, "gamma"), tensor_of(beta, "beta"), tensor_of(out, "out"),
                         {.number = or_default(scale, 1), .stored = stored_scale}, eps, on_of(on));
  });
}

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
  return guarded([&] {
    const Tensor query = tensor_of(q, "q"), table = tensor_of(cos_sin_cache, "cos_sin_cache");
    api::apply_rope_with_cos_sin_cache_inplace(array(positions, rows_of(query), "positions"), query, tensor_of(k, "k"), table,
                                               flag(is_neox, "is_neox"), on_of(on));
  });
}

fl_status fl_apply_rope_with_cos_sin_cache_inplace_int64(const fl_tensor* q, const fl_tensor* k,
                                                         const std::int64_t* positions, const fl_tensor* cos_sin_cache,
                                                         std::int32_t is_neox, const fl_on* on) {
  return guarded([&] {
    const Tensor query = tensor_of(q, "q"), table = tensor_of(cos_sin_cache, "cos_sin_cache");
    api::apply_rope_with_cos_sin_cache_inplace(array(positions, rows_of(query), "positions"), query, tensor_of(k, "k"), table,
                                               flag(is_neox, "is_neox"), on_of(on));
  });
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
