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

constexpr int most_norm_pieces = 2048;  // of 16 bytes, of a row that stays in registers

// A block's limits, and with them a thread's registers: wide 64, for rmsnorm with two pieces 40; else 80, with one piece 40.
constexpr int most_norm_threads(bool wide) { return wide ? most_norm_pieces / 4 : 256; }
constexpr int least_norm_blocks(bool wide, bool add, int chunks) {
  return wide ? (!add && chunks == 2 ? 3 : 2) : chunks == 1 ? 6 : 3;
}

// Rows that a group has in hand at once: 32 bytes a thread. 131072 x 128 in 18.9 us, where one row takes 19.6 and four 19.9.
constexpr int norm_rows_at_once(bool wide, bool add, int chunks) { return !wide && !add && chunks == 1 ? 2 : 1; }

// Is the weight loaded after the sum? With four pieces a thread a fused add then takes 64 registers instead of 71, rmsnorm
// 56 instead of 64. With few pieces it comes first, under programmatic launch before the kernel in front has ended.
constexpr bool norm_weight_last(bool wide, int chunks) { return wide && chunks > 2; }

// Threads of one call. `lanes` threads share a row, each holds `chunks` pieces of 16 bytes of it; a group of lanes is a part
// of a warp (a power of two), or the whole block (wide).
struct NormShape {
  bool in_registers = true;  // false: a row is not made of 16-byte pieces, or of too many; the walking kernel takes it
  bool aligned = true;       // rows are made of 16-byte pieces
  bool wide = false;
  int chunks = 1, lanes = 1, threads = 32;
  std::uint32_t rows_in_block = 1;  // the walking kernel steps over the grid instead
  std::int64_t grid = 0;
};

// Input and out [rows, d], or [n, num_heads, d] already checked. Throws InputError for f32 and for 2^31 rows or more.
NormParams norm_params(const Tensor& input, const Tensor& out, const Tensor& weight, float eps);

// add: fused_add_rmsnorm, which has two tensors in flight and so fewer chunks.
NormShape norm_shape(const NormParams& params, bool add, int multiprocessors);

}  // namespace flashladder::gpu
