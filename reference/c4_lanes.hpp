// C4, planned: plan_executor.hpp runs the items of a Plan on all cores, this is what an item is. Must equal C3.
// New: the work is a list made beforehand; the heads of a group are one tile; one query row in each SIMD lane, and otherwise
// C1's steps.
//
// S^T = K Q^T and O^T += V^T P^T: one element of K or V at a time multiplies the lanes of a panel of rows. So K and V are
// used as they lie, neither transposed nor packed, and a row's maximum, sum and exp2 never cross lanes. Keys that no row of
// a panel sees are skipped, so a causal tile costs its triangle.
// (Sums of outer products in registers: the micro-kernel of Goto and van de Geijn, ACM TOMS 34(3), 2008.)
#pragma once

#include "core/attention_params.hpp"
#include "reference/plan_executor.hpp"

namespace flashladder::reference {
class KeyTiles;  // key_stream.hpp
}

namespace flashladder::reference::c4 {

AttendItem attend_item;

// The same for keys and values that come from elsewhere: absorbs all of `keys` into acc.
void attend_tiles(const AttentionParams& params, const QueryTile& tile, KeyTiles& keys, ItemBuffers& buffers,
                  Accumulator& acc);
// Whether a tile's rows are one panel: each of its keys is then read once.
bool reads_keys_once(const QueryTile& tile);

// Keys in one chain of additions. Behind a weight of 1, float loses every one below 2^-24, and all others of a tile may be
// such: in one chain through the tile, d and o would lose more than the roundings of a logit explain.
inline constexpr std::int32_t longest_chain = 32;

}  // namespace flashladder::reference::c4
