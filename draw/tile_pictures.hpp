// Index maps of a tile, drawn from the maps themselves: which lane holds which element of a matrix fragment, and in which
// shared-memory banks the 16-byte chunks of a tile lie before and after a swizzle.
#pragma once

#include <cstdint>
#include <functional>

#include "core/fragment_map.hpp"
#include "draw/figure.hpp"

namespace flashladder::draw {

using FragmentMap = std::function<FragmentElement(std::int32_t lane, std::int32_t i)>;

// Every cell says "lane:i"; lanes of a group of four share a hue. An element outside the tile is refused (InputError); a
// cell with two holders is outlined in red, one with none stays blank. rows and columns: 1 .. 64.
Svg fragment_picture(std::int32_t rows, std::int32_t columns, std::int32_t lanes, std::int32_t elements_per_lane,
                     const FragmentMap& map, const Caption& caption = {});

// The byte offset, >= 0, at which chunk `chunk` (16 bytes) of row `row` is stored.
using ChunkOffset = std::function<std::int32_t(std::int32_t row, std::int32_t chunk)>;

// The bank group of each chunk under both maps. Outlined: the chunks that one phase of eight lanes reads, read_chunk of rows
// 0 .. 7; under them the cycles it takes (core/swizzle.hpp counts). rows: 8 .. 64, chunks: 1 .. 32, else InputError.
Svg bank_picture(std::int32_t rows, std::int32_t chunks, std::int32_t read_chunk, const ChunkOffset& before,
                 const ChunkOffset& after, const Caption& caption = {});

}  // namespace flashladder::draw
