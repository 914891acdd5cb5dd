// What the merge kernels are given, and how a call is cut into threads.
#pragma once

#include <cstdint>

#include "core/tensor.hpp"

namespace flashladder::gpu {

// States (v, s): v [.., num_heads, head_dim] of any dtype, s [.., num_heads] f32. Strides in elements.
struct StateRows {
  void* v = nullptr;  // an input's v and s are only read
  float* s = nullptr;
  DType dtype = DType::f32;
  std::int64_t v_row = 0, v_head = 0, s_row = 0, s_head = 0;
};
// [n, num_heads, head_dim] and [n, num_heads], or with heads another dimension.
StateRows state_rows(const ConstTensor& v, const ConstTensor& s, std::size_t head_dimension = 1);

// A block has `pairs` (row, head) pairs. Each pair has `ways` groups of threads, which share its states among them, and a
// group has `lanes` threads, each with `width` neighbouring features.
struct MergeShape {
  std::int32_t lanes = 1, ways = 1, pairs = 1, width = 1;

  std::int64_t blocks(std::int64_t rows_and_heads) const { return (rows_and_heads + pairs - 1) / pairs; }
  int threads() const { return lanes * ways * pairs; }
};
// vector: four features can be loaded in one access. states: how many a row has, on average.
MergeShape merge_shape(std::int64_t rows_and_heads, std::int64_t states, std::int32_t head_dim, bool vector,
                       int multiprocessors);

// Can four neighbouring features be loaded in one access: are head_dim, strides and address multiples of four elements?
bool is_vector(const ConstTensor& v);

}  // namespace flashladder::gpu
