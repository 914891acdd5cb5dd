// How many keys an item may hold: the policies none, fixed, count and target.
#pragma once

#include <cstdint>

#include "planner/plan_inputs.hpp"

namespace flashladder::planner {

// Tiles of the whole batch and of all heads, counted up to a little more than max_items.
std::int64_t count_tiles(const PlanInputs& inputs);

// Items of the whole batch if every tile is cut at multiples of chunk keys (0 = not cut) from its key begin, aligned down.
// A tile without keys counts as one item: it is written too. There are at most max_items tiles, or the sum may overflow.
std::int64_t count_items(const PlanInputs& inputs, std::int64_t chunk);

// The chunk that the policy chooses; 0 if it cuts nothing.
std::int32_t choose_chunk_size(const PlanInputs& inputs);

}  // namespace flashladder::planner
