// What the merge kernels are given, and how a call is cut into threads.
#pragma once

#include <cstdint>

#include "core/tensor.hpp"

namespace flashladder::gpu {

// States (v, s): v [.., num_heads, head_dim] of any dtype, s [.., num_heads] f32. Strides in elements.
struct StateRows {
  void* v = nullptr;
  float* s = nullptr;
  DType dtype = DType::f32;
  std::int64_t v_row = 0, v_head = 0, s_row = 0, s_head = 0;
};
StateRows state_rows(const Tensor& v, const Tensor& s);  // [n, num_heads, head_dim], [n, num_heads]

// `lanes` threads share a (row, head), each with `width` neighbouring features; `ways` such groups share its states, where
// there are many; a block has `pairs` of them.
struct MergeShape {
  std::int32_t lanes = 1, ways = 1, pairs = 1, width = 1;

  std::int64_t blocks(std::int64_t rows_and_heads) const { return (rows_and_heads + pairs - 1) / pairs; }
  int threads() const { return lanes * ways * pairs; }
};
// vector: four features can be loaded at once. states: of a row, on average.
MergeShape merge_shape(std::int64_t rows_and_heads, std::int64_t states, std::int32_t head_dim, bool vector,
                       int multiprocessors);

// Can four neighbouring features be one access: head_dim, strides and pointer are multiples of four elements?
bool is_vector(const Tensor& v);

}  // namespace flashladder::gpu
