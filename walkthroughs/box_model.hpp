// The copy engine of Hopper (TMA) in miniature: a tensor map as gpu/prefill/boxes.hpp makes it, and a box that is copied to
// shared memory: addresses from strides, zeros for what lies outside, swizzled rows of 128 bytes, bytes counted.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/kv_cache.hpp"
#include "core/swizzle.hpp"

namespace flashladder::walkthroughs {

using BoxPlace = std::array<std::int64_t, 5>;  // the innermost dimension first
inline constexpr int row_features = 64, group_tokens = 8, atom_bytes = 1024;

struct BoxMap {
  BoxPlace dims, strides, box;  // strides in bytes

  bool inside(const BoxPlace& at) const {
    for (int d = 0; d < 5; ++d) {
      if (at[d] < 0 || at[d] >= dims[d]) return false;
    }
    return true;
  }
  std::int64_t address(const BoxPlace& at) const {
    std::int64_t sum = 0;
    for (int d = 0; d < 5; ++d) sum += at[d] * strides[d];
    return sum;
  }
  std::int64_t box_bytes() const { return box[0] * box[1] * box[2] * box[3] * box[4] * 2; }
};

struct CacheShape {
  KvStrides strides;
  std::int32_t num_heads, head_dim;

  std::int64_t head_step() const { return strides.head / row_features; }  // in rows of 64 features
  std::int64_t head_rows() const { return (num_heads - 1) * head_step() + head_dim / row_features; }
};

// {64 features, 8 tokens, heads x features / 64, page_size / 8, pages}
inline BoxMap pages_map(const CacheShape& c, std::int32_t page_size, std::int32_t num_pages, std::int32_t box_rows) {
  return {{row_features, group_tokens, c.head_rows(), page_size / group_tokens, num_pages},
          {2, c.strides.entry * 2, row_features * 2, group_tokens * c.strides.entry * 2, c.strides.page * 2},
          {row_features, group_tokens, c.head_dim / row_features, box_rows / group_tokens, 1}};
}
// Where feature f of a token lies on that map.
inline BoxPlace place_on_pages(const CacheShape& c, KvSlot slot, std::int32_t head, std::int32_t f) {
  return {f % row_features, slot.entry % group_tokens, head * c.head_step() + f / row_features, slot.entry / group_tokens,
          slot.page};
}

// A ragged cache: {64 features, 8 rows, heads x features / 64, groups of 8 rows, 8 rows}, row = 8 c3 + c4 + c1.
inline BoxMap rows_map(const CacheShape& c, std::int32_t rows, std::int32_t tile) {
  const std::int64_t row = c.strides.page * 2, groups = rows < group_tokens ? 0 : (rows - (group_tokens - 1)) / group_tokens;
  return {{row_features, group_tokens, c.head_rows(), groups, group_tokens},
          {2, row, row_features * 2, group_tokens * row, row},
          {row_features, group_tokens, c.head_dim / row_features, tile / group_tokens, 1}};
}

// Copies the box that begins at `at` to byte `to` of shared memory, a multiple of 1024, and returns the bytes that the
// barrier counts. Elements are 16 bits; tensor, shared: what the addresses are relative to.
inline std::int64_t copy_box(const BoxMap& map, std::span<const std::uint16_t> tensor, const BoxPlace& at,
                             std::span<std::uint16_t> shared, std::int64_t to) {
  for (std::int64_t i = 0; i < map.box_bytes() / 2; ++i) {
    BoxPlace place = at;
    for (std::int64_t d = 0, rest = i; d < 5; rest /= map.box[d], ++d) place[d] += rest % map.box[d];
    const auto stored = swizzled_offset(Swizzle::bytes_128, static_cast<std::int32_t>(to + 2 * i));
    shared[stored / 2] = map.inside(place) ? tensor[map.address(place) / 2] : std::uint16_t{0};
  }
  return map.box_bytes();
}

// The largest power of two that divides both: tokens of a box.
constexpr std::int32_t common_rows(std::int32_t page_size, std::int32_t tile) {
  std::int32_t rows = 1;
  while (page_size % (2 * rows) == 0 && tile % (2 * rows) == 0) rows *= 2;
  return rows;
}

}  // namespace flashladder::walkthroughs
