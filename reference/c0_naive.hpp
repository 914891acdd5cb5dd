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
  Matrix<T> p;         // [qo_len, kv_len]  2^(logit - m), rounded to p_dtype
  Vector<T> scale;     // [qo_len]  o = P V * scale
};

// The ladder's function for one head, T = double. T = float is the yardstick of every tolerance: the error that the plain
// formula makes in that precision. p_dtype is what is rounded to before a product: P, and q and k behind a rotation (16-bit
// tensor cores do that; f32 does not).
template <class T>
HeadResult<T> naive_head(const AttentionProblem& problem, std::int32_t request, std::int32_t qo_head,
                         std::int64_t mask_offset, DType p_dtype = DType::f32);

// Writes o (f32) and lse_log2 of the whole batch.
void attend(const AttentionProblem& problem, const AttentionOutput& output);

}  // namespace flashladder::reference::c0
