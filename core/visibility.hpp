// Which keys a query sees: one rule for every rung, and the hull of it that loops and planners use to skip tiles.
//
// Query i (0 .. qo_len - 1) and key j (0 .. kv_len - 1) are absolute in their request; the queries are the *last* qo_len
// tokens of the sequence, so query i stands on the diagonal key i + kv_len - qo_len (bottom-right alignment).
//   causal  sees j <= diagonal            window_left w  sees j >= diagonal - w   (w + 1 keys with the diagonal one)
//   custom  sees j where the mask's byte is not 0, or its bit is set; it replaces causal, a window still applies
// qo_len > kv_len is legal: the first rows stand left of key 0 and, if causal, see nothing.
#pragma once

#include <cstdint>

#include "core/attention_params.hpp"
#include "core/host_device.hpp"
#include "core/mask_bits.hpp"
#include "core/range.hpp"

namespace flashladder {

// The smallest range that holds every key query i may see. Without a custom mask it holds no other key.
FL_HD constexpr Range visible_keys(const AttentionParams& p, std::int32_t qo_len, std::int32_t kv_len, std::int32_t i) {
  const std::int64_t diagonal = std::int64_t{i} + kv_len - qo_len;
  Range keys{0, kv_len};
  if (p.mask == MaskMode::causal && diagonal + 1 < keys.end) {
    keys.end = diagonal < 0 ? 0 : static_cast<std::int32_t>(diagonal + 1);
  }
  if (p.window_left >= 0 && diagonal - p.window_left > 0) {
    const std::int64_t first = diagonal - p.window_left;
    keys.begin = first > kv_len ? kv_len : static_cast<std::int32_t>(first);
  }
  if (keys.end < keys.begin) keys.end = keys.begin;
  return keys;
}

// The hull over queries [rows.begin, rows.end): what a tile of queries must read.
FL_HD constexpr Range visible_keys(const AttentionParams& p, std::int32_t qo_len, std::int32_t kv_len, Range queries) {
  if (queries.empty()) return {};
  const Range first = visible_keys(p, qo_len, kv_len, queries.begin);
  const Range last = visible_keys(p, qo_len, kv_len, queries.end - 1);
  return {first.begin < last.begin ? first.begin : last.begin, last.end};
}

// The rule itself. mask is the request's own, bytes or MaskBits; read only when p.mask is custom.
template <class Mask>
FL_HD constexpr bool visible(const AttentionParams& p, std::int32_t qo_len, std::int32_t kv_len, std::int32_t i,
                             std::int32_t j, Mask mask) {
  if (!visible_keys(p, qo_len, kv_len, i).contains(j)) return false;
  return p.mask != MaskMode::custom || shows(mask, kv_len, i, j);
}

// The last key that query i sees, -1 if it sees none. A custom mask is walked from the end of the hull.
template <class Mask>
FL_HD constexpr std::int32_t last_visible_key(const AttentionParams& p, std::int32_t qo_len, std::int32_t kv_len,
                                              std::int32_t i, Mask mask) {
  const Range keys = visible_keys(p, qo_len, kv_len, i);
  std::int32_t last = keys.end - 1;
  if (p.mask == MaskMode::custom) {
    while (last >= keys.begin && !shows(mask, kv_len, i, last)) --last;
  }
  return last >= keys.begin ? last : -1;
}

}  // namespace flashladder
