// The rules for a cascade's levels (api/multi_level_cascade.hpp): which config they can have, and how they fit together.
#pragma once

#include <cstdint>
#include <span>

#include "api/multi_level_cascade.hpp"

namespace flashladder::api {

// Refuses what counts positions from one end of the whole sequence to the other, which no level sees.
void validate_cascade_config(std::int32_t num_levels, const AttentionConfig& config);

// Levels that are valid batches, each on its own: do they divide the same rows, each into groups of the level before? And
// with a causal mask: is every key that a query must not see on the last level?
void validate_levels(std::span<const CascadeLevel> levels, const AttentionConfig& config);

// One set of limits a level, for the same rows.
void validate_level_limits(std::span<const AttentionLimits> levels);

}  // namespace flashladder::api
