#include "core/op_checks.hpp"

#include <cmath>

#include "core/checks.hpp"
#include "core/error.hpp"

namespace flashladder {
namespace {

void check_weight(const Tensor& weight, const Tensor& input, float eps) {
  check_tensor("weight", weight, "[d]", {input.shape[input.rank - 1]});
  check_dtype("weight", weight, input.dtype, "must have the dtype of input");
  require(std::isfinite(eps) && eps >= 0, "eps", eps, "must be finite and not negative");
}

void check_cache(const PagedKvCache& c) {
  require(c.num_pages >= 0, "paged_kv_cache.num_pages", c.num_pages, "must not be negative");
  require(c.page_size >= 1, "paged_kv_cache.page_size", c.page_size, "must be at least 1");
  require(c.num_kv_heads >= 1, "paged_kv_cache.num_kv_heads", c.num_kv_heads, "must be at least 1");
  const auto check_pool = [&](const char* argument, void* data, const KvStrides& s, std::int32_t head_dim) {
    check_output(argument, {.data = data, .dtype = c.dtype, .rank = 4,
                            .shape = {c.num_pages, c.page_size, c.num_kv_heads, head_dim},
                            .strides = {s.page, s.entry, s.head, 1}},
                 "[num_pages, page_size, num_kv_heads, head_dim]", {any_size, any_size, any_size, any_size});
  };
  check_pool("paged_kv_cache.k", c.k, c.k_strides, c.head_dim_qk);
  check_pool("paged_kv_cache.v", c.v, c.v_strides, c.head_dim_vo);
}

constexpr const char* v_form = "[n, num_heads, head_dim]";
constexpr const char* s_form = "[n, num_heads]";
constexpr const char* s_rule = "must be f32: an LSE in 16 bits has lost the weights";

struct Sizes {
  std::int64_t n, num_heads, head_dim;
};
Sizes sizes_of(const Tensor& v) { return {v.shape[0], v.shape[1], v.shape[2]}; }

void check_state(const char* v_name, const Tensor& v, const char* s_name, const Tensor& s, Sizes z) {
  check_tensor(v_name, v, v_form, {z.n, z.num_heads, z.head_dim});
  check_tensor(s_name, s, s_form, {v.shape[0], v.shape[1]});
  check_dtype(s_name, s, DType::f32, s_rule);
}
void check_result(const char* v_name, const Tensor& v, const char* s_name, const Tensor& s, Sizes z) {
  check_output(v_name, v, v_form, {z.n, z.num_heads, z.head_dim});
  check_output(s_name, s, s_form, {v.shape[0], v.shape[1]});
  check_dtype(s_name, s, DType::f32, s_rule);
  check_distinct(s_name, s, v, "is written, as v is: they must be two tensors");
}

}  // namespace

void check_rmsnorm(const Tensor& input, const Tensor& weight, const Tensor& out, float eps) {
  if (input.rank == 3) {
    check_tensor("input", input, "[n, num_heads, d]", {any_size, any_size, any_size});
    check_output("out", out, "[n, num_heads, d]", {input.shape[0], input.shape[1], input.shape[2]});
  } else {
    check_tensor("input", input, "[n, d]", {any_size, any_size});
    check_output("out", out, "[n, d]", {input.shape[0], input.shape[1]});
  }
  check_dtype("out", out, input.dtype, "must have the dtype of input");
  check_weight(weight, input, eps);
}

void check_fused_add_rmsnorm(const Tensor& input, const Tensor& residual, const Tensor& weight, float eps) {
  check_output("input", input, "[n, d]", {any_size, any_size});
  check_output("residual", residual, "[n, d]", {input.shape[0], input.shape[1]});
  check_dtype("residual", residual, input.dtype, "must have the dtype of input");
  check_distinct("residual", residual, input, "is written, as input is: they must be two tensors");
  check_weight(weight, input, eps);
}

Tensor with_heads(const Tensor& t) {
  if (t.rank == 3) return t;
  return {.data = t.data, .dtype = t.dtype, .rank = 3, .shape = {t.shape[0], 1, t.shape[1]},
          .strides = {t.strides[0], 0, t.strides[1]}};
}

void check_rope_heads(const Tensor& q, const Tensor& k, std::int64_t nnz) {
  check_output("q", q, "[nnz, num_qo_heads, head_dim]", {nnz, any_size, any_size});
  check_output("k", k, "[nnz, num_kv_heads, head_dim]", {nnz, any_size, q.shape[2]});
  check_dtype("k", k, q.dtype, "must have the dtype of q");
  check_distinct("k", k, q, "is rotated, as q is: they must be two tensors");
}

void check_rotary_dim(const char* argument, std::int64_t rotary_dim) {
  require(rotary_dim >= 2 && rotary_dim % 2 == 0, argument, rotary_dim, "must be even and at least 2: pairs rotate");
}

void check_frequencies(float rope_scale, float rope_theta) {
  require(std::isfinite(rope_scale) && rope_scale > 0, "rope_scale", rope_scale, "must be finite and greater than 0");
  require(std::isfinite(rope_theta) && rope_theta > 0, "rope_theta", rope_theta, "must be finite and greater than 0");
}

std::int32_t checked_rotary_dim(std::int32_t rotary_dim, std::int64_t head_dim, float rope_scale, float rope_theta) {
  const std::int64_t rotated = rotary_dim == 0 ? head_dim : rotary_dim;
  check_rotary_dim("rotary_dim", rotated);
  require(rotated <= head_dim, "rotary_dim", rotated, "must be at most head_dim");
  check_frequencies(rope_scale, rope_theta);
  return static_cast<std::int32_t>(rotated);
}

void check_cos_sin_cache(const Tensor& cos_sin_cache, std::int64_t head_dim) {
  check_tensor("cos_sin_cache", cos_sin_cache, "[max_pos, rotary_dim]", {any_size, any_size});
  check_dtype("cos_sin_cache", cos_sin_cache, DType::f32, "must be f32: 16 bits are too few for an angle");
  const std::int64_t rotary_dim = cos_sin_cache.shape[1];
  check_rotary_dim("cos_sin_cache rotary_dim", rotary_dim);
  require(rotary_dim <= head_dim, "cos_sin_cache rotary_dim", rotary_dim, "must be at most head_dim");
}

void check_append(const Tensor& append_key, const Tensor& append_value, std::span<const std::int32_t> batch_indices,
                  std::span<const std::int32_t> positions, const PagedKvCache& paged_kv_cache) {
  const PagedKvCache& cache = paged_kv_cache;
  check_cache(cache);
  const auto nnz = static_cast<std::int64_t>(batch_indices.size());
  const std::int64_t heads = cache.num_kv_heads;
  check_tensor("append_key", append_key, "[nnz, num_kv_heads, head_dim_qk]", {nnz, heads, cache.head_dim_qk});
  check_tensor("append_value", append_value, "[nnz, num_kv_heads, head_dim_vo]", {nnz, heads, cache.head_dim_vo});
  check_dtype("append_key", append_key, cache.dtype, "must have the dtype of paged_kv_cache");
  check_dtype("append_value", append_value, cache.dtype, "must have the dtype of paged_kv_cache");
  check_span("batch_indices", batch_indices, nnz);
  check_span("positions", positions, nnz);
}

void check_merge_state(const Tensor& v_a, const Tensor& s_a, const Tensor& v_b, const Tensor& s_b, const Tensor& v_out,
                       const Tensor& s_out) {
  check_state("v_a", v_a, "s_a", s_a, {any_size, any_size, any_size});
  check_state("v_b", v_b, "s_b", s_b, sizes_of(v_a));
  check_result("v_out", v_out, "s_out", s_out, sizes_of(v_a));
}

void check_merge_state_in_place(const Tensor& v, const Tensor& s, const Tensor& v_other, const Tensor& s_other,
                                std::span<const std::uint8_t> mask) {
  check_result("v", v, "s", s, {any_size, any_size, any_size});
  check_state("v_other", v_other, "s_other", s_other, sizes_of(v));
  if (!mask.empty()) check_span("mask", mask, v.shape[0]);
}

void check_merge_states(const Tensor& v, const Tensor& s, const Tensor& v_out, const Tensor& s_out) {
  check_tensor("v", v, "[n, num_states, num_heads, head_dim]", {any_size, any_size, any_size, any_size});
  check_tensor("s", s, "[n, num_states, num_heads]", {v.shape[0], v.shape[1], v.shape[2]});
  check_dtype("s", s, DType::f32, s_rule);
  check_result("v_out", v_out, "s_out", s_out, {v.shape[0], v.shape[2], v.shape[3]});
}

void check_variable_length_merge_states(const Tensor& v, const Tensor& s, const Tensor& v_out, const Tensor& s_out) {
  check_state("v", v, "s", s, {any_size, any_size, any_size});
  check_result("v_out", v_out, "s_out", s_out, {any_size, v.shape[1], v.shape[2]});
}

}  // namespace flashladder
