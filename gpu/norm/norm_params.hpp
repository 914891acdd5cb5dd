// What the norm kernels are given, and how a call is cut into threads.
#pragma once

#include <cstdint>

#include "core/tensor.hpp"

namespace flashladder::gpu {

// Rows of one tensor. Row r is head r % num_heads of token r / num_heads.
struct NormRows {
  void* data = nullptr;                // [rows, d]
  std::int64_t stride = 0, head = 0;   // elements, from token to token and from head to head
};

struct NormParams {
  NormRows input{}, out{}, residual{};  // residual: fused_add_rmsnorm only, where out is input
  const void* weight = nullptr;    // [d]
  std::uint32_t rows = 0, num_heads = 1;
  std::int32_t d = 0;
  float inverse_d = 1, eps = 0;
};

// Threads of a block at most: more of them leave too few registers for four pieces each.
constexpr int most_norm_threads(bool wide, int chunks) { return !wide || chunks == 4 ? 256 : 1024; }

// Threads of one call. `lanes` threads share a row, each holds `chunks` pieces of 16 bytes of it; a group of lanes is a part
// of a warp (a power of two), or the whole block (wide). A block has a grid's step of groups and goes on to later rows.
struct NormShape {
  bool in_registers = true;  // false: a row is not made of 16-byte pieces, or of too many; the walking kernel takes it
  bool aligned = true;       // rows are made of 16-byte pieces
  bool wide = false;
  int chunks = 1, lanes = 1, threads = 32;
  std::int64_t grid = 0;
};

// Input and out [rows, d], or [n, num_heads, d] already checked. Throws InputError for f32 and for 2^31 rows or more.
NormParams norm_params(const Tensor& input, const Tensor& out, const Tensor& weight, float eps);

// add: fused_add_rmsnorm, which has two tensors in flight and so half the chunks.
NormShape norm_shape(const NormParams& params, bool add, int multiprocessors);

}  // namespace flashladder::gpu
