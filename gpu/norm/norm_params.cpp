#include "gpu/norm/norm_params.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "core/error.hpp"
#include "core/op_checks.hpp"
#include "gpu/arguments.hpp"

namespace flashladder::gpu {
namespace {

constexpr int elements = 8;         // of 16 bytes
constexpr int threads_in_sm = 768;  // that run at the same time, about: the kernels' registers allow no more

// If the first head of a token follows the last head of the token before it at the same distance as heads follow each other,
// all heads are rows with one stride, and the kernel needs no division to find a row.
NormRows rows_of(const ConstTensor& t, bool flat) {
  return {const_cast<void*>(t.data), flat && t.shape[1] > 1 ? t.strides[1] : t.strides[0], t.strides[1]};
}
bool is_flat(const ConstTensor& t) { return t.shape[1] == 1 || t.strides[0] == t.shape[1] * t.strides[1]; }

// Do rows consist of pieces of eight elements, which are so many bytes?
bool aligned(const NormRows& rows, unsigned bytes = 16) {
  return reinterpret_cast<std::uintptr_t>(rows.data) % bytes == 0 && rows.stride % elements == 0 && rows.head % elements == 0;
}

int round_up(int n, int to) { return (n + to - 1) / to * to; }

}  // namespace

NormParams norm_params(const ConstTensor& input, const Tensor& out, const ConstTensor& weight, float eps) {
  require_16_bits("input", input);
  require_int32_shape("input", input);
  const ConstTensor from = with_heads(input), to = with_heads(out);
  const std::int64_t rows = from.shape[0] * from.shape[1];
  require(rows <= std::numeric_limits<std::int32_t>::max(), "input", rows, "has more than 2^31 - 1 rows");
  const bool flat = is_flat(from) && is_flat(to);
  const auto d = static_cast<std::int32_t>(from.shape[2]);
  return {.input = rows_of(from, flat), .out = rows_of(to, flat), .weight = weight.data,
          .rows = static_cast<std::uint32_t>(rows),
          .num_heads = flat ? 1 : static_cast<std::uint32_t>(from.shape[1]), .d = d,
          .inverse_d = 1.0f / static_cast<float>(d), .eps = eps};
}

NormShape norm_shape(const NormParams& p, bool add, int multiprocessors, bool quantises) {
  const int most_lanes = 32, most_chunks = quantises ? 1 : add ? 2 : 4, pieces = p.d / elements;
  const std::int64_t threads_at_work = std::int64_t{multiprocessors} * threads_in_sm;
  NormShape shape;
  shape.aligned = p.d % elements == 0 && aligned(p.input) && aligned(p.out, quantises ? 8 : 16) &&
                  aligned(p.residual) && reinterpret_cast<std::uintptr_t>(p.weight) % 16 == 0;
  shape.in_registers = shape.aligned && pieces <= most_norm_pieces;
  // With few rows all threads run at the same time, and the time is that of one load, one sum and one store.
  const bool few = std::int64_t{p.rows} * pieces <= threads_at_work;
  if (!shape.in_registers) {
    shape.aligned = shape.aligned && !quantises;
    shape.threads = std::clamp(round_up(shape.aligned ? pieces : p.d, 32), 32, 1024);
    shape.grid = std::min<std::int64_t>(p.rows, std::max<std::int64_t>(multiprocessors, threads_at_work / shape.threads));
    return shape;
  }
  if (pieces <= most_lanes || (!few && pieces <= most_lanes * most_chunks)) {
    shape.chunks = pieces <= 32 ? 1 : pieces <= 64 ? 2 : 4;
    shape.lanes = static_cast<int>(std::bit_ceil(static_cast<unsigned>((pieces + shape.chunks - 1) / shape.chunks)));
    shape.threads = few ? 64 : most_norm_threads(false);
    shape.rows_in_block = shape.threads / shape.lanes * norm_rows_at_once(false, add, shape.chunks);
  } else {
    // Two pieces a thread where that makes at most 256 threads, and four in longer rows. A fused add has two tensors to wait
    // for and is faster with four pieces in fewer threads. (docs/measurements/h200-ops.md, second round.)
    shape.wide = true;
    shape.chunks = pieces <= (few ? 1024 : add ? 0 : 512) ? 2 : 4;
    shape.lanes = shape.threads = round_up((pieces + shape.chunks - 1) / shape.chunks, 32);
  }
  shape.grid = (std::int64_t{p.rows} + shape.rows_in_block - 1) / shape.rows_in_block;
  return shape;
}

}  // namespace flashladder::gpu
