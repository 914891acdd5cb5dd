#include "core/op_checks.hpp"

#include <cmath>

#include "core/checks.hpp"
#include "core/error.hpp"

namespace flashladder {
namespace {

using Indices = std::span<const std::int32_t>;

std::int64_t innermost(const ConstTensor& t) { return t.shape[static_cast<std::size_t>(t.rank) - 1]; }

void check_eps(float eps) { require(std::isfinite(eps) && eps >= 0, "eps", eps, "must be finite and not negative"); }

void check_weight(const ConstTensor& weight, const ConstTensor& input, float eps) {
  check_tensor("weight", weight, "[d]", {innermost(input)});
  check_dtype("weight", weight, input.dtype, "must have the dtype of input");
  check_eps(eps);
}

// Rows that are normalised, and where they go.
void check_rows(const ConstTensor& input, const Tensor& out, Floats of_out) {
  if (input.rank == 3) {
    check_tensor("input", input, "[n, num_heads, d]", {any_size, any_size, any_size});
    check_output("out", out, "[n, num_heads, d]", {input.shape[0], input.shape[1], input.shape[2]}, of_out);
  } else {
    check_tensor("input", input, "[n, d]", {any_size, any_size});
    check_output("out", out, "[n, d]", {input.shape[0], input.shape[1]}, of_out);
  }
}

void check_rows(const ConstTensor& input, const Tensor& out) {
  check_rows(input, out, Floats::wide);
  check_dtype("out", out, input.dtype, "must have the dtype of input");
}

void check_quantised(const Tensor& out, const QuantScale& scale) {
  if (!is_fp8(out.dtype)) check_dtype("out", out, DType::f8_e4m3, "must be f8_e4m3 or f8_e5m2");
  require(std::isfinite(scale.number) && scale.number > 0, "scale", scale.number, "must be finite and greater than 0");
  require(scale.stored == nullptr || scale.number == 1, "scale", scale.number,
          "must be 1 where a stored scale is given: they are not multiplied");
}

void check_apart_from(const QuantScale& scale, const char* argument, const Tensor& written) {
  if (scale.stored != nullptr) check_apart(argument, written, "scale", contiguous(scale.stored, DType::f32, {1}));
}

void check_gamma_and_beta(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
                          float eps) {
  check_tensor("gamma", gamma, "[d]", {innermost(input)});
  if (gamma.dtype != DType::f32) check_dtype("gamma", gamma, input.dtype, "must be f32, or have the dtype of input");
  check_tensor("beta", beta, "[d]", {innermost(input)});
  check_dtype("beta", beta, gamma.dtype, "must have the dtype of gamma");
  check_eps(eps);
  check_apart("out", out, "gamma", gamma);
  check_apart("out", out, "beta", beta);
}

template <class Position>
void check_rope_at(const Tensor& q, const Tensor& k, const char* positions_name, std::span<const Position> positions) {
  check_output("q", q, "[nnz, num_qo_heads, head_dim]", {any_size, any_size, any_size});
  check_output("k", k, "[nnz, num_kv_heads, head_dim]", {q.shape[0], any_size, q.shape[2]});
  check_dtype("k", k, q.dtype, "must have the dtype of q");
  check_span(positions_name, positions, q.shape[0]);
  check_apart("k", k, "q", q);
  check_apart("q", q, positions_name, positions);
  check_apart("k", k, positions_name, positions);
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

void check_rmsnorm_quant(const ConstTensor& input, const ConstTensor& weight, const Tensor& out, const QuantScale& scale,
                         float eps) {
  check_rows(input, out, Floats::fp8_too);
  check_quantised(out, scale);
  check_weight(weight, input, eps);
  check_apart("out", out, "input", input);
  check_apart("out", out, "weight", weight);
  check_apart_from(scale, "out", out);
}

void check_fused_add_rmsnorm_quant(const ConstTensor& input, const Tensor& residual, const ConstTensor& weight,
                                   const Tensor& out, const QuantScale& scale, float eps) {
  check_tensor("input", input, "[n, d]", {any_size, any_size});
  check_output("residual", residual, "[n, d]", {input.shape[0], input.shape[1]});
  check_dtype("residual", residual, input.dtype, "must have the dtype of input");
  check_rmsnorm_quant(input, weight, out, scale, eps);
  check_apart("residual", residual, "input", input);
  check_apart("residual", residual, "weight", weight);
  check_apart("out", out, "residual", residual);
  check_apart_from(scale, "residual", residual);
}

void check_layernorm(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
                     float eps) {
  check_rows(input, out);
  check_gamma_and_beta(input, gamma, beta, out, eps);
  check_same_or_apart("out", out, "input", input);
}

void check_layernorm_quant(const ConstTensor& input, const ConstTensor& gamma, const ConstTensor& beta, const Tensor& out,
                           const QuantScale& scale, float eps) {
  check_rows(input, out, Floats::fp8_too);
  check_quantised(out, scale);
  check_gamma_and_beta(input, gamma, beta, out, eps);
  check_apart("out", out, "input", input);
  check_apart_from(scale, "out", out);
}

void check_rope(const Tensor& q, const Tensor& k, const char* positions_name, Indices positions) {
  check_rope_at(q, k, positions_name, positions);
}
void check_rope(const Tensor& q, const Tensor& k, const char* positions_name, std::span<const std::int64_t> positions) {
  check_rope_at(q, k, positions_name, positions);
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
