// Where the keys of a tile may be cut: the arithmetic in which the host's planner (planner/) and the GPU's (gpu/plan/) must
// agree to the bit, written once.
//
//   policies none and fixed      chunks: every `chunk` keys, counted from the tile's first key, aligned down
//   policies balanced and even   a line of tiles, cut among lanes; even: where equal shares of the line's cost end, so that a
//                                lane's cut is arithmetic, without any other lane's (planner/even_cuts.cpp has the bound);
//                                or nowhere, where whole tiles are as level
#pragma once

#include <cstdint>

#include "core/host_device.hpp"
#include "core/range.hpp"

namespace flashladder {

// x >= 0. Mostly align is a power of two, and a division would cost ten times the mask: plans are made between two kernels.
template <class Int>
FL_HD constexpr Int align_down(Int x, std::int32_t align) {
  return (align & (align - 1)) == 0 ? x & -static_cast<Int>(align) : x - x % align;
}
// x + align - 1 must be in range, where the result may lie.
template <class Int>
FL_HD constexpr Int align_up(Int x, std::int32_t align) {
  const Int down = align_down(x, align);
  return down == x ? x : down + align;
}

// --- Chunks. chunk: a multiple of align; 0: the tile is not cut. A tile without keys is one piece.
FL_HD constexpr std::int32_t chunk_pieces(Range keys, std::int32_t chunk, std::int32_t align) {
  if (chunk == 0 || keys.empty()) return 1;
  return div_up(keys.end - align_down(keys.begin, align), chunk);
}
FL_HD constexpr Range chunk_piece(Range keys, std::int32_t chunk, std::int32_t align, std::int32_t piece) {
  if (chunk == 0) return keys;
  const std::int64_t first = align_down(keys.begin, align), begin = first + std::int64_t{chunk} * piece, end = begin + chunk;
  return {piece == 0 ? keys.begin : static_cast<std::int32_t>(begin),
          end < keys.end ? static_cast<std::int32_t>(end) : keys.end};
}

// --- Lanes.
// The line that is cut: the tiles of `heads` heads, for `lanes` CTAs. It is laid `copies` times, heads * copies = all.
struct BalancedLine {
  std::int32_t heads = 1, copies = 1, lanes = 1;
};
// One head's line for every head, unless that would leave more than one CTA in twenty without work. num_ctas <= 2^20.
FL_HD constexpr BalancedLine balanced_line(std::int32_t heads, std::int32_t num_ctas) {
  const std::int32_t lanes = num_ctas / heads;
  if (20 * lanes * heads >= 19 * num_ctas) return {1, heads, lanes};
  return {heads, 1, num_ctas};
}

// --- Policy even.
// Where lane `lane` of `lanes` begins in a line that costs `total` uncut. It is in the unit (a tile of one head of the line)
// with begin_cost <= even_position < end_cost.
FL_HD constexpr double even_position(double total, std::int32_t lane, std::int32_t lanes) { return total * lane / lanes; }

// How many whole units each lane gets, where that is as level as cutting them; 0: they are cut. What is cut is written twice
// and merged. dearest: what no unit costs more than.
FL_HD constexpr std::int32_t whole_units(double total, double dearest, std::int32_t units, std::int32_t lanes, double per_item,
                                         std::int32_t align) {
  const std::int32_t each = div_up(units, lanes);
  return each * dearest <= total / lanes + per_item + align ? each : 0;
}

// The key of that unit at which the lane begins: the nearest multiple of align. keys.begin: at the beginning of the unit, since
// fewer than align keys would lie before the cut; keys.end: behind the unit, where fewer would lie behind it.
//   offset   even_position - begin_cost, less than the unit's cost
// Cost: a float type; or, where all costs are whole numbers, an integer: the offset rounded down gives the same key.
template <class Cost>
FL_HD constexpr std::int32_t even_cut(Cost offset, Range keys, Cost per_item, Cost per_key, std::int32_t align) {
  if (offset < per_item) return keys.begin;
  const Cost before = per_key == 1 ? offset - per_item : (offset - per_item) / per_key;  // keys
  const std::uint32_t at = static_cast<std::uint32_t>(keys.begin) + static_cast<std::uint32_t>(before);
  const std::int64_t cut = align_down(at + static_cast<std::uint32_t>(align / 2), align);
  if (cut - keys.begin < align) return keys.begin;
  return keys.end - cut < align ? keys.end : static_cast<std::int32_t>(cut);
}

}  // namespace flashladder
