// Which keys the packed rows of an item see: a range for each row, for causal masks and windows alike, and the range that
// all rows of a tile see, inside of which nothing need be asked.
//
//   keys ->   . . x x x x . .   row 0      x  seen
//   rows      . . . x x x x .   row 1
//                 |       |
//   all rows see  . . . x x x . .          outside of it, a tile of keys is an edge tile: each row asks of each key
//
// A custom mask hides keys inside these ranges too; with it every tile is an edge tile (variants.cuh).
#pragma once

#include <cstdint>

#include "core/attention_params.hpp"
#include "core/range.hpp"
#include "core/visibility.hpp"
#include "gpu/attention/packed_plan.hpp"

namespace flashladder::gpu {

// A kernel parameter: what of the mask is a rule, not bytes.
struct KeyRules {
  MaskMode mask = MaskMode::none;
  std::int32_t window_left = -1;
};
inline KeyRules key_rules(const AttentionParams& p) { return {p.mask, p.window_left}; }

// The keys of the item that query i of its request sees: visible_keys() of core/visibility.hpp, in numbers of 32 bits, which
// hold the diagonal of every query that there is, and whatever is subtracted from it behind a comparison.
__device__ inline Range row_keys(const KeyRules& rules, const PackedItem& item, std::int32_t i) {
  const std::int32_t diagonal = item.request.diagonal + i;
  Range seen = item.keys;
  if (rules.mask == MaskMode::causal && diagonal < seen.end) seen.end = diagonal + 1;
  if (rules.window_left >= 0 && diagonal > rules.window_left) seen.begin = max(seen.begin, diagonal - rules.window_left);
  return seen;
}

// The keys that all queries first .. last of its request see: ranges move to the right from query to query.
__device__ inline Range keys_of_all(const KeyRules& rules, const PackedItem& item, std::int32_t first, std::int32_t last) {
  return {row_keys(rules, item, last).begin, row_keys(rules, item, first).end};
}

// Tiles of `size` keys, counted from the item's first key, for queries first .. last of its request: which of them some
// query sees, and which of them lie within what all of them see.
struct SeenTiles {
  Range some, all;
};
__device__ inline SeenTiles seen_tiles(const KeyRules& rules, const PackedItem& item, std::int32_t first, std::int32_t last,
                                       std::int32_t size) {
  const std::int32_t begin = item.keys.begin;
  const Range hull{row_keys(rules, item, first).begin, row_keys(rules, item, last).end};
  const Range of_all = keys_of_all(rules, item, first, last);
  SeenTiles tiles;
  if (!hull.empty()) tiles.some = {(hull.begin - begin) / size, (hull.end - 1 - begin) / size + 1};
  if (!of_all.empty()) tiles.all = {div_up(of_all.begin - begin, size), (of_all.end - begin) / size};
  return tiles;
}

}  // namespace flashladder::gpu
