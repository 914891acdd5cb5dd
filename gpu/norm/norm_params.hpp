// What the norm kernels are given, and how a call is cut into threads.
#pragma once

#include <cstdint>

#include "core/tensor.hpp"

namespace flashladder::gpu {

// Rows of one tensor. Row r is head r % num_heads of token r / num_heads.
struct NormRows {
  void* data = nullptr;                // [rows, d]; an input's is only read
  std::int64_t stride = 0, head = 0;   // elements, from token to token and from head to head
};

struct NormParams {
  NormRows input{}, out{}, residual{};  // residual: fused_add_rmsnorm only, where out is input if it is not fp8
  const void* weight = nullptr;    // [d]
  float added = -0.0f;             // to each weight: 1 for Gemma, else -0, which leaves any float as it is, -0 too
  std::uint32_t rows = 0, num_heads = 1;
  std::int32_t d = 0;
  float inverse_d = 1, eps = 0;
};

constexpr int most_norm_pieces = 2048;  // of 16 bytes, of a row that stays in registers

// The limits that a block is compiled for: its threads, and how many blocks an SM shall hold. From them follow the registers
// that a thread may have: wide 64, but 40 for rmsnorm with two pieces; else 80, but 40 with one piece. To fp8 it has 64, but 128
// with a wide fused add: the division by the scale takes some.
constexpr int most_norm_threads(bool wide) { return wide ? most_norm_pieces / 4 : 256; }
constexpr int least_norm_blocks(bool wide, bool add, int chunks, bool quantises) {
  if (quantises) return !wide ? 4 : add ? 1 : 2;
  return wide ? (!add && chunks == 2 ? 3 : 2) : chunks == 1 ? 6 : 3;
}

// Rows whose loads a group starts together. Short rows come in twos, so that 32 bytes a thread are in flight; one row or
// four are slower (docs/measurements/h200-ops.md).
constexpr int norm_rows_at_once(bool wide, bool add, int chunks) { return !wide && !add && chunks == 1 ? 2 : 1; }

// Is the weight loaded after the sum? With four pieces a thread that saves seven registers, and more blocks fit on an SM.
// With few pieces it is loaded first, and with programmatic launch even before the previous kernel has ended.
constexpr bool norm_weight_last(bool wide, int chunks) { return wide && chunks > 2; }

// How a call is cut into threads. A group of `lanes` threads has a row, and each of them holds `chunks` pieces of 16 bytes
// of it. A group is a part of a warp (a power of two), or the whole block (wide).
struct NormShape {
  bool in_registers = true;  // false: a row is not made of 16-byte pieces, or of too many: norm_walk.cuh takes it
  bool aligned = true;       // rows are made of 16-byte pieces
  bool wide = false;
  int chunks = 1, lanes = 1, threads = 32;
  std::uint32_t rows_in_block = 1;  // not of norm_walk.cuh, whose blocks take a row after the other
  std::int64_t grid = 0;
};

// Input and out [rows, d], or [n, num_heads, d] already checked. Throws InputError for f32 and for 2^31 rows or more.
NormParams norm_params(const ConstTensor& input, const Tensor& out, const ConstTensor& weight, float eps);

// add: fused_add_rmsnorm, which holds pieces of two tensors and so takes fewer of each. quantises: to fp8, which has fewer
// instances: parts of a warp hold one piece a lane, and rows that don't stay in registers are read element by element.
NormShape norm_shape(const NormParams& params, bool add, int multiprocessors, bool quantises = false);

}  // namespace flashladder::gpu
