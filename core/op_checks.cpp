#include "core/op_checks.hpp"

#include <cmath>

#include "core/checks.hpp"
#include "core/error.hpp"

namespace flashladder {
namespace {

using Indices = std::span<const std::int32_t>;
using Slots = std::span<const std::int64_t>;

std::int64_t innermost(const ConstTensor& t) { return t.shape[static_cast<std::size_t>(t.rank) - 1]; }

void check_eps(float eps) { require(std::isfinite(eps) && eps >= 0, "eps", eps, "must be finite and not negative"); }

void check_weight(const ConstTensor& weight, const ConstTensor& input, float eps) {
  check_tensor("weight", weight, "[d]", {innermost(input)});
  check_dtype("weight", weight, input.dtype, "must have the dtype of input");
  check_eps(eps);
}

// Rows that are normalised, and where they go.
void check_rows(const ConstTensor& input, const Tensor& out) {
  if (input.rank == 3) {
    check_tensor("input", input, "[n, num_heads, d]", {any_size, any_size, any_size});
    check_output("out", out, "[n, num_heads, d]", {input.shape[0], input.shape[1], input.shape[2]});
  } else {
    check_tensor("input", input, "[n, d]", {any_size, any_size});
    check_output("out", out, "[n, d]", {input.shape[0], input.shape[1]});
  }
  check_dtype("out", out, input.dtype, "must have the dtype of input");
}

constexpr const char* k_pool_name = "paged_kv_cache.k";
constexpr const char* v_pool_name = "paged_kv_cache.v";

Tensor pool(const PagedKvCache& c, void* data, const KvStrides& s, std::int32_t head_dim) {
  return {.data = data, .dtype = c.dtype, .rank = 4, .shape = {c.num_pages, c.page_size, c.num_kv_heads, head_dim},
          .strides = {s.page, s.entry, s.head, 1}};
}

void check_cache(const PagedKvCache& c) {
  require(c.num_pages >= 0, "paged_kv_cache.num_pages", c.num_pages, "must not be negative");
  require(c.page_size >= 1, "paged_kv_cache.page_size", c.page_size, "must be at least 1");
  require(c.num_kv_heads >= 1, "paged_kv_cache.num_kv_heads", c.num_kv_heads, "must be at least 1");
  constexpr const char* form = "[num_pages, page_size, num_kv_heads, head_dim]";
  check_output(k_pool_name, k_pool(c), form, {any_size, any_size, any_size, any_size});
  check_output(v_pool_name, v_pool(c), form, {any_size, any_size, any_size, any_size});
  check_apart(v_pool_name, v_pool(c), k_pool_name, k_pool(c));
}

constexpr const char* v_form = "[n, num_heads, head_dim]";
constexpr const char* s_form = "[n, num_heads]";
constexpr const char* s_rule = "must be f32: an LSE in 16 bits has lost the weights";

struct Sizes {
  std::int64_t n, num_heads, head_dim;
};
Sizes sizes_of(const ConstTensor& v) { return {v.shape[0], v.shape[1], v.shape[2]}; }

void check_state(const char* v_name, const ConstTensor& v, const char* s_name, const ConstTensor& s, Sizes z) {
  check_tensor(v_name, v, v_form, {z.n, z.num_heads, z.head_dim});
  check_tensor(s_name, s, s_form, {v.shape[0], v.shape[1]});
  check_dtype(s_name, s, DType::f32, s_rule);
}
void check_result(const char* v_name, const Tensor& v, const char* s_name, const Tensor& s, Sizes z) {
  check_output(v_name, v, v_form, {z.n, z.num_heads, z.head_dim});
  check_output(s_name, s, s_form, {v.shape[0], v.shape[1]});
  check_dtype(s_name, s, DType::f32, s_rule);
  check_apart(s_name, s, v_name, v);
}
// A result beside a state that is read in the same places: it may be that state.
void check_beside(const char* v_name, const Tensor& v, const char* s_name, const Tensor& s, const char* other_v_name,
                  const ConstTensor& other_v, const char* other_s_name, const ConstTensor& other_s) {
  check_same_or_apart(v_name, v, other_v_name, other_v);
  check_same_or_apart(s_name, s, other_s_name, other_s);
  check_apart(v_name, v, other_s_name, other_s);
  check_apart(s_name, s, other_v_name, other_v);
}
// A result beside states of another shape.
void check_apart_from_states(const ConstTensor& v, const ConstTensor& s, const Tensor& v_out, const Tensor& s_out) {
  check_apart("v_out", v_out, "v", v);
  check_apart("v_out", v_out, "s", s);
  check_apart("s_out", s_out, "v", v);
  check_apart("s_out", s_out, "s", s);
}

// Everything that an append reads, against one tensor that it writes.
void check_append_apart(const char* name, const Tensor& written, const ConstTensor& append_key,
                        const ConstTensor& append_value, Indices batch_indices, Indices positions,
                        const PagedKvTable& table) {
  check_apart(name, written, "append_key", append_key);
  check_apart(name, written, "append_value", append_value);
  check_apart(name, written, "batch_indices", batch_indices);
  check_apart(name, written, "positions", positions);
  check_apart(name, written, "paged_kv_indptr", table.paged_kv_indptr);
  check_apart(name, written, "paged_kv_indices", table.paged_kv_indices);
  check_apart(name, written, "paged_kv_last_page_len", table.paged_kv_last_page_len);
}
void check_append_apart(const char* name, const Tensor& written, const ConstTensor& append_key,
                        const ConstTensor& append_value, Slots slot_mapping) {
  check_apart(name, written, "append_key", append_key);
  check_apart(name, written, "append_value", append_value);
  check_apart(name, written, "slot_mapping", slot_mapping);
}

// The new keys and values against the cache. Returns how many there are.
std::int64_t check_appended(const ConstTensor& append_key, const ConstTensor& append_value, const PagedKvCache& cache) {
  check_cache(cache);
  const std::int64_t heads = cache.num_kv_heads;
  check_tensor("append_key", append_key, "[nnz, num_kv_heads, head_dim_qk]", {any_size, heads, cache.head_dim_qk});
  const std::int64_t nnz = append_key.shape[0];
  check_tensor("append_value", append_value, "[nnz, num_kv_heads, head_dim_vo]", {nnz, heads, cache.head_dim_vo});
  check_dtype("append_key", append_key, cache.dtype, "must have the dtype of paged_kv_cache");
  check_dtype("append_value", append_value, cache.dtype, "must have the dtype of paged_kv_cache");
  return nnz;
}

// q, which is rotated beside them.
void check_appended_q(const Tensor& q, const ConstTensor& append_key, const PagedKvCache& cache) {
  check_output("q", q, "[nnz, num_qo_heads, head_dim_qk]", {append_key.shape[0], any_size, cache.head_dim_qk});
  check_dtype("q", q, cache.dtype, "must have the dtype of paged_kv_cache");
  check_apart("q", q, k_pool_name, k_pool(cache));
  check_apart("q", q, v_pool_name, v_pool(cache));
}

}  // namespace

void check_rmsnorm(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, float eps) {
  check_rows(input, out);
  check_weight(weight, input, eps);
  check_same_or_apart("out", out, "input", input);
  check_apart("out", out, "weight", weight);
}

void check_fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const ConstTensor& weight, float eps) {
  check_output("input", input, "[n, d]", {any_size, any_size});
  check_output("residual", residual, "[n, d]", {input.shape[0], input.shape[1]});
  check_dtype("residual", residual, input.dtype, "must have the dtype of input");
  check_weight(weight, input, eps);
  check_apart("residual", residual, "input", input);
  check_apart("input", input, "weight", weight);
  check_apart("residual", residual, "weight", weight);
}

void check_layernorm(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
                     float eps) {
  check_rows(input, out);
  check_tensor("gamma", gamma, "[d]", {innermost(input)});
  if (gamma.dtype != DType::f32) check_dtype("gamma", gamma, input.dtype, "must be f32, or have the dtype of input");
  check_tensor("beta", beta, "[d]", {innermost(input)});
  check_dtype("beta", beta, gamma.dtype, "must have the dtype of gamma");
  check_eps(eps);
  check_same_or_apart("out", out, "input", input);
  check_apart("out", out, "gamma", gamma);
  check_apart("out", out, "beta", beta);
}

void check_rope(const Tensor& q, const Tensor& k, const char* positions_name, Indices positions) {
  check_output("q", q, "[nnz, num_qo_heads, head_dim]", {any_size, any_size, any_size});
  check_output("k", k, "[nnz, num_kv_heads, head_dim]", {q.shape[0], any_size, q.shape[2]});
  check_dtype("k", k, q.dtype, "must have the dtype of q");
  check_span(positions_name, positions, q.shape[0]);
  check_apart("k", k, "q", q);
  check_apart("q", q, positions_name, positions);
  check_apart("k", k, positions_name, positions);
}

void check_rotary_dim(const char* argument, std::int64_t rotary_dim) {
  require(rotary_dim >= 2 && rotary_dim % 2 == 0, argument, rotary_dim, "must be even and at least 2: pairs rotate");
}

void check_frequencies(float rope_scale, float rope_theta, const std::optional<Llama31Scaling>& llama31) {
  require(std::isfinite(rope_scale) && rope_scale > 0, "rope_scale", rope_scale, "must be finite and greater than 0");
  require(std::isfinite(rope_theta) && rope_theta > 0, "rope_theta", rope_theta, "must be finite and greater than 0");
  if (!llama31) return;
  const auto& [low, high, old_context_len] = *llama31;
  require(std::isfinite(low) && low > 0, "low_freq_factor", low, "must be finite and greater than 0");
  require(std::isfinite(high) && high > low, "high_freq_factor", high, "must be finite and greater than low_freq_factor");
  require(old_context_len >= 1, "old_context_len", old_context_len, "must be at least 1");
}

std::int32_t checked_rotary_dim(std::int32_t rotary_dim, std::int64_t head_dim, float rope_scale, float rope_theta,
                                const std::optional<Llama31Scaling>& llama31) {
  const std::int64_t rotated = rotary_dim == 0 ? head_dim : rotary_dim;
  check_rotary_dim("rotary_dim", rotated);
  require(rotated <= head_dim, "rotary_dim", rotated, "must be at most head_dim");
  check_frequencies(rope_scale, rope_theta, llama31);
  return static_cast<std::int32_t>(rotated);
}

void check_cos_sin_cache(const ConstTensor& cos_sin_cache, std::int64_t head_dim, std::initializer_list<Written> written) {
  check_tensor("cos_sin_cache", cos_sin_cache, "[max_pos, rotary_dim]", {any_size, any_size});
  check_dtype("cos_sin_cache", cos_sin_cache, DType::f32, "must be f32: 16 bits are too few for an angle");
  const std::int64_t rotary_dim = cos_sin_cache.shape[1];
  check_rotary_dim("cos_sin_cache rotary_dim", rotary_dim);
  require(rotary_dim <= head_dim, "cos_sin_cache rotary_dim", rotary_dim, "must be at most head_dim");
  for (const Written& w : written) check_apart(w.name, w.tensor, "cos_sin_cache", cos_sin_cache);
}

Tensor k_pool(const PagedKvCache& c) { return pool(c, c.k, c.k_strides, c.head_dim_qk); }
Tensor v_pool(const PagedKvCache& c) { return pool(c, c.v, c.v_strides, c.head_dim_vo); }

void check_append(const ConstTensor& append_key, const ConstTensor& append_value, Indices batch_indices, Indices positions,
                  const PagedKvCache& paged_kv_cache, const PagedKvTable& table) {
  const PagedKvCache& cache = paged_kv_cache;
  const std::int64_t nnz = check_appended(append_key, append_value, cache);
  check_span("batch_indices", batch_indices, nnz);
  check_span("positions", positions, nnz);
  check_append_apart(k_pool_name, k_pool(cache), append_key, append_value, batch_indices, positions, table);
  check_append_apart(v_pool_name, v_pool(cache), append_key, append_value, batch_indices, positions, table);
}

void check_append(const ConstTensor& append_key, const ConstTensor& append_value, Slots slot_mapping,
                  const PagedKvCache& paged_kv_cache) {
  check_span("slot_mapping", slot_mapping, check_appended(append_key, append_value, paged_kv_cache));
  check_append_apart(k_pool_name, k_pool(paged_kv_cache), append_key, append_value, slot_mapping);
  check_append_apart(v_pool_name, v_pool(paged_kv_cache), append_key, append_value, slot_mapping);
}

void check_rope_append(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value,
                       Indices batch_indices, Indices positions, const PagedKvCache& paged_kv_cache,
                       const PagedKvTable& table) {
  const PagedKvCache& cache = paged_kv_cache;
  check_append(append_key, append_value, batch_indices, positions, cache, table);
  check_appended_q(q, append_key, cache);
  check_append_apart("q", q, append_key, append_value, batch_indices, positions, table);
}

void check_rope_append(const Tensor& q, const ConstTensor& append_key, const ConstTensor& append_value, Indices positions,
                       Slots slot_mapping, const PagedKvCache& paged_kv_cache) {
  check_append(append_key, append_value, slot_mapping, paged_kv_cache);
  check_appended_q(q, append_key, paged_kv_cache);
  check_append_apart("q", q, append_key, append_value, slot_mapping);
  check_span("positions", positions, append_key.shape[0]);
  for (const Written& w : {Written{"q", q}, {k_pool_name, k_pool(paged_kv_cache)}, {v_pool_name, v_pool(paged_kv_cache)}}) {
    check_apart(w.name, w.tensor, "positions", positions);
  }
}

void check_merge_state(const ConstTensor& v_a, const ConstTensor& s_a, const ConstTensor& v_b, const ConstTensor& s_b,
                       const Tensor& v_out, const Tensor& s_out) {
  check_state("v_a", v_a, "s_a", s_a, {any_size, any_size, any_size});
  check_state("v_b", v_b, "s_b", s_b, sizes_of(v_a));
  check_result("v_out", v_out, "s_out", s_out, sizes_of(v_a));
  check_beside("v_out", v_out, "s_out", s_out, "v_a", v_a, "s_a", s_a);
  check_beside("v_out", v_out, "s_out", s_out, "v_b", v_b, "s_b", s_b);
}

void check_merge_state_in_place(const Tensor& v, const Tensor& s, const ConstTensor& v_other, const ConstTensor& s_other,
                                std::span<const std::uint8_t> mask) {
  check_result("v", v, "s", s, {any_size, any_size, any_size});
  check_state("v_other", v_other, "s_other", s_other, sizes_of(v));
  check_beside("v", v, "s", s, "v_other", v_other, "s_other", s_other);
  if (mask.empty()) return;
  check_span("mask", mask, v.shape[0]);
  check_apart("v", v, "mask", mask);
  check_apart("s", s, "mask", mask);
}

void check_merge_states(const ConstTensor& v, const ConstTensor& s, const Tensor& v_out, const Tensor& s_out) {
  check_tensor("v", v, "[n, num_states, num_heads, head_dim]", {any_size, any_size, any_size, any_size});
  check_tensor("s", s, "[n, num_states, num_heads]", {v.shape[0], v.shape[1], v.shape[2]});
  check_dtype("s", s, DType::f32, s_rule);
  check_result("v_out", v_out, "s_out", s_out, {v.shape[0], v.shape[2], v.shape[3]});
  check_apart_from_states(v, s, v_out, s_out);
}

void check_variable_length_merge_states(const ConstTensor& v, const ConstTensor& s, Indices indptr, const Tensor& v_out,
                                        const Tensor& s_out) {
  check_state("v", v, "s", s, {any_size, any_size, any_size});
  check_result("v_out", v_out, "s_out", s_out, {any_size, v.shape[1], v.shape[2]});
  check_span("indptr", indptr, v_out.shape[0] + 1);
  check_apart_from_states(v, s, v_out, s_out);
  check_apart("v_out", v_out, "indptr", indptr);
  check_apart("s_out", s_out, "indptr", indptr);
}

}  // namespace flashladder
