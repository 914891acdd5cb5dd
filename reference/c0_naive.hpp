// C0, naive: softmax(Q K^T) V with the whole score matrix, in double. The oracle: everything else is measured against it.
// It gathers each request's pages first. Leaves out: speed, and any thought of memory.
#pragma once

#include "core/attention_problem.hpp"
#include "core/tensor.hpp"
#include "reference/matrix.hpp"

namespace flashladder::reference::c0 {

// What one query head of one request comes to.
template <class T>
struct HeadResult {
  Matrix<T> o;         // [qo_len, head_dim_vo]
  Vector<T> lse_log2;  // [qo_len]
  Matrix<T> p;         // [qo_len, kv_len]  2^(logit - m), rounded to operands
  Vector<T> scale;     // [qo_len]  o = P V * scale, times the scale of V
};

// The ladder's function for one head, T = double. T = float is the yardstick of every tolerance: the error that the plain
// formula makes in that precision. operands is what 16-bit tensor cores multiply, and f32 rounds nothing: P is rounded to it
// before P V, and q and K before Q K^T where RoPE has rotated them (ROPE_LLAMA; else they have the dtype as they come).
template <class T>
HeadResult<T> naive_head(const AttentionProblem& problem, std::int32_t request, std::int32_t qo_head,
                         std::int64_t mask_offset, DType operands = DType::f32);

// Writes o (f32) and lse_log2 of the whole batch.
void attend(const AttentionProblem& problem, const AttentionOutput& output);

}  // namespace flashladder::reference::c0
