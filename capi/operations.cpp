// Appending and norms: each call of the C++ interface, with its arrays as long as the tensors say. RoPE: rope.cpp.
#include "api/operations.hpp"
#include "capi/errors.hpp"
#include "capi/structs.hpp"
#include "core/validate.hpp"

using namespace flashladder;
using namespace flashladder::capi;

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
    const std::span<const std::int32_t> lengths = array(seq_lens, batch, "seq_lens");
    const std::span<const std::int32_t> ids = array(block_tables, std::int64_t{batch} * max_pages, "block_tables");
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
