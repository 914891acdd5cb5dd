#include "gpu/rope/rope_params.hpp"

#include <algorithm>

#include "gpu/device.hpp"

namespace flashladder::gpu {
namespace {

constexpr int element_bytes = 2, elements = 16 / element_bytes, threads_of_multiprocessor = 2048;

// Can a lane with `pairs` pairs load and store them in whole pieces? In neox a piece holds one feature of each pair,
// interleaved it holds both.
bool in_pieces(const HeadRows& q, const HeadRows& k, std::int32_t rotary_dim, RopeStyle style, std::int32_t pairs) {
  const std::int32_t bytes = std::min(16, (style == RopeStyle::neox ? 1 : 2) * pairs * element_bytes);
  const std::int32_t lanes = rotary_dim / (2 * pairs);
  return rotary_dim % (2 * pairs) == 0 && lanes <= in_place_threads && is_aligned(q, bytes) && is_aligned(k, bytes) &&
         div_up(q.num_heads + k.num_heads, in_place_threads / std::max(lanes, 1)) <= most_blocks_yz;
}

}  // namespace

HeadRows head_rows(const ConstTensor& t) {
  return {const_cast<void*>(t.data), t.strides[0], t.strides[1], static_cast<std::int32_t>(t.shape[1]),
          static_cast<std::int32_t>(t.shape[2])};
}

bool is_aligned(const void* data, int bytes) {
  return reinterpret_cast<std::uintptr_t>(data) % static_cast<unsigned>(bytes) == 0;
}
bool is_aligned(const HeadRows& rows, int bytes) {
  const int count = bytes / element_bytes;
  return is_aligned(rows.data, bytes) && rows.token % count == 0 && rows.head % count == 0;
}
bool is_aligned(const void* pool, const KvStrides& s, int bytes) {
  return is_aligned(pool, bytes) && s.page % elements == 0 && s.entry % elements == 0 && s.head % elements == 0;
}

TokenShape token_shape(std::int32_t num_heads, std::int32_t lanes, int heads_at_once, int most_threads) {
  TokenShape shape{.lanes = lanes};
  const std::int32_t slots = div_up(num_heads, heads_at_once);
  shape.slots = std::clamp(slots, 1, most_threads / shape.lanes);
  shape.tokens_in_block = std::clamp(most_threads / (shape.lanes * shape.slots), 1, most_threads_z);
  return shape;
}

InPlaceShape in_place_shape(const HeadRows& q, const HeadRows& k, std::int32_t nnz, std::int32_t rotary_dim, RopeStyle style,
                            int multiprocessors) {
  const std::int32_t heads = q.num_heads + k.num_heads;
  const bool few = std::int64_t{nnz} * heads * (rotary_dim / 8) <= std::int64_t{multiprocessors} * threads_of_multiprocessor;
  const bool eight = in_pieces(q, k, rotary_dim, style, 8), four = in_pieces(q, k, rotary_dim, style, 4);
  InPlaceShape shape;
  shape.pairs = four && (few || !eight) ? 4 : eight ? 8 : 0;
  if (shape.pairs == 0 || heads == 0) return shape;
  const std::int32_t lanes = rotary_dim / (2 * shape.pairs);
  shape.chunks = div_up(heads, in_place_threads / lanes);
  shape.tokens = token_shape(div_up(heads, shape.chunks), lanes, 1, in_place_threads);
  return shape;
}

}  // namespace flashladder::gpu
