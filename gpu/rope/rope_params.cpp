#include "gpu/rope/rope_params.hpp"

#include <algorithm>

namespace flashladder::gpu {
namespace {

constexpr int elements = 8;  // of 16 bits in 16 bytes

}  // namespace

HeadRows head_rows(const Tensor& t) {
  return {t.data, t.strides[0], t.strides[1], static_cast<std::int32_t>(t.shape[1]), static_cast<std::int32_t>(t.shape[2])};
}

bool is_aligned(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; }
bool is_aligned(const HeadRows& rows) {
  return is_aligned(rows.data) && rows.token % elements == 0 && rows.head % elements == 0;
}
bool is_aligned(const void* pool, const KvStrides& s) {
  return is_aligned(pool) && s.page % elements == 0 && s.entry % elements == 0 && s.head % elements == 0;
}

TokenShape token_shape(std::int32_t num_heads, std::int32_t lanes, int heads_at_once, int most_threads) {
  TokenShape shape{.lanes = lanes};
  const std::int32_t slots = (num_heads + heads_at_once - 1) / heads_at_once;
  shape.slots = std::clamp(slots, 1, most_threads / shape.lanes);
  shape.tokens_in_block = std::max(1, most_threads / shape.threads_of_token());
  return shape;
}

}  // namespace flashladder::gpu
