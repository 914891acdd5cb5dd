#include "bench/gpu/rope_table.hpp"

#include <utility>

#include "ladder/cases/drawn/random.hpp"
#include "reference/rope_ops.hpp"

namespace flashladder::bench {
namespace {

std::vector<std::int32_t> drawn_positions(std::int32_t tokens, std::uint64_t seed) {
  ladder::Random random(seed);
  std::vector<std::int32_t> positions;
  for (std::int32_t i = 0; i < tokens; ++i) positions.push_back(static_cast<std::int32_t>(random.below(RopeTable::max_pos)));
  return positions;
}

std::vector<float>& cos_sin_cache() {  // made once: it takes longer than timing what uses it
  static std::vector<float> cache = reference::make_cos_sin_cache(RopeTable::max_pos, RopeTable::rotary_dim);
  return cache;
}

}  // namespace

RopeTable::RopeTable(std::int32_t tokens, std::uint64_t seed) : RopeTable(drawn_positions(tokens, seed)) {}

RopeTable::RopeTable(std::vector<std::int32_t> positions)
    : positions_(std::move(positions)), cache_(cos_sin_cache()),
      device_positions_(positions_.data(), positions_.size() * sizeof(std::int32_t)),
      device_cache_(cache_.data(), cache_.size_bytes()) {}

std::vector<std::int32_t> RopeTable::positions_of(std::span<const std::int64_t> rows) const {
  std::vector<std::int32_t> some;
  for (const std::int64_t row : rows) some.push_back(positions_[static_cast<std::size_t>(row)]);
  return some;
}

}  // namespace flashladder::bench
